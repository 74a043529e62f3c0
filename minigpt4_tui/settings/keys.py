"""The actions of the app and their keys: `ACTIONS`, overridden by the user's own keys.

An action's id is also the id of its Textual binding, so that `App.set_keymap(bindings(...).keymap())`
carries the user's keys to wherever the binding is declared.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from minigpt4.core.text import suggestion

UNBOUND = "unbound"
"""A key that no keyboard has: with an empty entry in a keymap Textual keeps the default."""


class Action(NamedTuple):
    """An action and its keys; `scope` is where they work, see `SCOPES`."""

    id: str
    keys: tuple[str, ...]
    about: str
    group: str
    scope: str


SCOPES = {
    "app": "everywhere",
    "chat": "in a conversation, wherever the focus is",
    "composer": "while a question is typed",
    "chips": "on a picture waiting in the composer",
    "message": "on a message",
    "picture": "on a picture in a message",
    "sidebar": "in the list of conversations",
    "zoom": "while a picture fills the screen",
    "picker": "while a picture is chosen",
    "editor": "while the system prompt is written",
    "dialog": "in any screen over the conversation",
}
_IN_CHAT = ("composer", "chips", "message", "picture", "sidebar")
_OVER_CHAT = ("zoom", "picker", "editor")
_WHILE_TYPING = ("app", "chat", "composer")

_CONVERSATION, _ANSWER, _PICTURES, _APP = "Conversation", "Answer", "Pictures", "Application"

ACTIONS: tuple[Action, ...] = (
    Action("send", ("enter",), "Send the question", _CONVERSATION, "composer"),
    Action("newline", ("shift+enter", "ctrl+j"), "Begin a new line", _CONVERSATION, "composer"),
    Action("edit_last", ("ctrl+up",), "Edit the last question again", _CONVERSATION, "composer"),
    Action(
        "earlier_question",
        ("up",),
        "Bring back the question before, from the first line",
        _CONVERSATION,
        "composer",
    ),
    Action(
        "later_question",
        ("down",),
        "Go on to the question after, at last to your draft",
        _CONVERSATION,
        "composer",
    ),
    Action("focus_messages", ("alt+up",), "Go up to the messages", _CONVERSATION, "composer"),
    Action("open_editor", ("f6",), "Write the question in your own editor", _CONVERSATION, "chat"),
    Action("new_conversation", ("ctrl+n",), "Begin a new conversation", _CONVERSATION, "app"),
    Action("search", ("ctrl+f", "f3"), "Search all conversations", _CONVERSATION, "app"),
    Action("export", ("ctrl+s",), "Save the conversation as a file", _CONVERSATION, "chat"),
    Action(
        "next_conversation",
        ("ctrl+pagedown",),
        "Open the next conversation of the list",
        _CONVERSATION,
        "chat",
    ),
    Action(
        "previous_conversation",
        ("ctrl+pageup",),
        "Open the conversation above it in the list",
        _CONVERSATION,
        "chat",
    ),
    Action("rename_conversation", ("f12",), "Rename the conversation", _CONVERSATION, "sidebar"),
    Action("pin_conversation", ("f7",), "Pin the conversation, or let it go", _CONVERSATION, "sidebar"),
    Action("delete_conversation", ("delete",), "Delete the conversation", _CONVERSATION, "sidebar"),
    Action("undelete_conversation", ("ctrl+z",), "Bring back the last deleted one", _CONVERSATION, "sidebar"),
    Action("stop", ("escape",), "Stop the answer, or go back to the composer", _ANSWER, "chat"),
    Action("regenerate", ("ctrl+r",), "Answer the last question once more", _ANSWER, "chat"),
    Action("continue_answer", ("ctrl+g",), "Let the last answer go on", _ANSWER, "chat"),
    Action("restart_engine", ("f8",), "Start the model again after it failed", _ANSWER, "chat"),
    Action("page_up", ("pageup",), "Scroll the conversation up", _ANSWER, "chat"),
    Action("page_down", ("pagedown",), "Scroll the conversation down", _ANSWER, "chat"),
    Action("follow_end", ("ctrl+end",), "Go to the end and follow it", _ANSWER, "chat"),
    Action("next_message", ("down", "j"), "Go to the next message", _ANSWER, "message"),
    Action("previous_message", ("up", "k"), "Go to the message before", _ANSWER, "message"),
    Action("next_variant", ("right", "l"), "Show the next variant", _ANSWER, "message"),
    Action("previous_variant", ("left", "h"), "Show the variant before", _ANSWER, "message"),
    Action("edit_message", ("e",), "Edit the message; nothing after it is lost", _ANSWER, "message"),
    Action("copy_message", ("c",), "Copy the message", _ANSWER, "message"),
    Action("toggle_reasoning", ("t",), "Show or hide what the model thought first", _ANSWER, "message"),
    Action("copy_code", ("y",), "Copy a block of code of the message", _ANSWER, "message"),
    Action("save_page", ("f5",), "Save the web page in an answer, and open it", _ANSWER, "chat"),
    Action("pick_picture", ("ctrl+o",), "Choose pictures from a folder", _PICTURES, "chat"),
    Action("paste", ("ctrl+v",), "Paste a picture or text from the clipboard", _PICTURES, "chat"),
    Action("complete_path", ("tab",), "Complete the path after /image", _PICTURES, "composer"),
    Action("remove_picture", ("delete", "backspace"), "Take the picture out", _PICTURES, "chips"),
    Action("zoom_picture", ("enter", "space"), "Show the picture on the whole screen", _PICTURES, "picture"),
    Action("model_view", ("m",), "Show what the model sees of the picture", _PICTURES, "zoom"),
    Action("next_picture", ("right",), "Show the next picture", _PICTURES, "zoom"),
    Action("previous_picture", ("left",), "Show the picture before", _PICTURES, "zoom"),
    Action("select_picture", ("space",), "Choose one more picture", _PICTURES, "picker"),
    Action("palette", ("ctrl+p",), "Open the command palette", _APP, "app"),
    Action("toggle_sidebar", ("ctrl+b", "f9"), "Show or hide the list of conversations", _APP, "chat"),
    Action("focus_sidebar", ("ctrl+l",), "Go to the list of conversations", _APP, "chat"),
    Action("help", ("f1",), "Show all keys, and change them", _APP, "app"),
    Action("models", ("f2",), "Choose a model", _APP, "app"),
    Action("settings", ("f4",), "Change the settings", _APP, "app"),
    Action("themes", ("ctrl+t",), "Choose a theme", _APP, "app"),
    Action("save", ("ctrl+s",), "Keep what was written", _APP, "editor"),
    Action("close", ("escape",), "Go back to the conversation", _APP, "dialog"),
    Action("quit", ("ctrl+q",), "Leave", _APP, "app"),
)

_BY_ID = {action.id: action for action in ACTIONS}
_MODIFIERS = ("alt", "ctrl", "hyper", "meta", "shift", "super")
_OTHER_NAMES = {
    "control": "ctrl",
    "option": "alt",
    "cmd": "super",
    "esc": "escape",
    "return": "enter",
    "del": "delete",
    "ins": "insert",
    "pgup": "pageup",
    "page_up": "pageup",
    "pgdn": "pagedown",
    "page_down": "pagedown",
}
_SAME_BYTES = {"ctrl+i": "Tab", "ctrl+m": "Enter", "ctrl+h": "Backspace"}
"""Terminals send the same byte for both, unless they support kitty's keyboard protocol."""


class Bindings(NamedTuple):
    """The keys of every action; `clashes` are invalid and conflicting keys, as sentences."""

    keys: Mapping[str, tuple[str, ...]]
    clashes: tuple[str, ...]

    def keymap(self) -> dict[str, str]:
        """For `App.set_keymap`; an action without keys has `UNBOUND` for one."""
        return {action: ",".join(keys) or UNBOUND for action, keys in self.keys.items()}


def bindings(wanted: Mapping[str, tuple[str, ...]]) -> Bindings:
    """The defaults, overridden by the user's own keys (`Settings.keys`).

    A key that the user assigned is removed from another action's defaults; if it was assigned twice,
    the earlier of `ACTIONS` keeps it. Either is reported.
    """
    problems: list[str] = []
    own = {
        action: _sound(action, keys, problems)
        for action, keys in wanted.items()
        if _is_known(action, problems)
    }
    keys = {action.id: list(own.get(action.id, action.keys)) for action in ACTIONS}
    order = sorted(ACTIONS, key=lambda action: action.id not in own)
    for place, winner in enumerate(order):
        for loser in order[place + 1 :]:
            for key in [key for key in keys[loser.id] if key in keys[winner.id] and _overlap(winner, loser)]:
                keys[loser.id].remove(key)
                problems.append(
                    f"The key '{key}' is given to '{winner.id}' and to '{loser.id}'; '{winner.id}' keeps it. "
                    f"Choose another in keys.{loser.id}."
                )
    return Bindings({action: tuple(found) for action, found in keys.items()}, tuple(problems))


def action_named(name: str) -> Action:
    """The action with that id; raises KeyError if there is none."""
    return _BY_ID[name]


def key_problem(action: Action, key: str) -> str:
    """Why a key that was pressed cannot be the action's, as a sentence; empty if it can."""
    if key == "ctrl+c":
        return "Ctrl+C copies, stops and leaves; press another key."
    if key_name(key) != key:
        return "That key has no name by which every terminal would know it; press another one."
    if key in _SAME_BYTES:
        same = _SAME_BYTES[key]
        return f"Most terminals cannot tell that key from {same}; press another one."
    if _is_typed(key) and action.scope in _WHILE_TYPING:
        return "That key could not be typed any more, as this works while you write; add Ctrl or Alt."
    return ""


def others_with(key: str, action: Action, keys: Mapping[str, tuple[str, ...]]) -> list[Action]:
    """The other actions that have the key in `keys` and can be active where `action` is."""
    return [one for one in ACTIONS if one is not action and key in keys[one.id] and _overlap(one, action)]


def key_name(key: str) -> str | None:
    """A key as Textual names it ("Ctrl+/" is "ctrl+slash"), None if it does not exist."""
    typed = key.strip()
    head, plus, last = typed.rpartition("+")
    if typed == "+" or typed.endswith("++"):
        head, plus, last = typed[:-2], typed[:-2], "+"
    modifiers = [_OTHER_NAMES.get(part, part) for part in head.lower().split("+")] if plus else []
    if not set(modifiers) <= set(_MODIFIERS):
        return None
    if len(last) != 1:
        last = _OTHER_NAMES.get(last.lower(), last.lower())
        if last not in _named_keys():
            return None
    elif not last.isprintable():
        return None
    elif last.isalnum():
        last = _letter(last, modifiers)
    else:
        last = _sign_name(last)
    return "+".join([*sorted(set(modifiers)), last])


def _letter(letter: str, modifiers: list[str]) -> str:
    """Shift and a letter is the capital, as terminals send it; with other modifiers case is ignored."""
    if modifiers == ["shift"]:
        modifiers.clear()
        return letter.upper()
    return letter.lower() if modifiers else letter


def _is_known(action: str, problems: list[str]) -> bool:
    if action in _BY_ID:
        return True
    hint = suggestion(action, _BY_ID, "the help screen lists them.")
    problems.append(f"There is no action '{action}' that keys.{action} could be for; {hint}")
    return False


def _sound(action: str, keys: tuple[str, ...], problems: list[str]) -> tuple[str, ...]:
    """The valid keys; the action's defaults if none of those given is."""
    found = tuple(dict.fromkeys(_usable(action, keys, problems)))
    return found if found or not keys else _BY_ID[action].keys


def _usable(action: str, keys: tuple[str, ...], problems: list[str]) -> Iterator[str]:
    for key in keys:
        name = key_name(key)
        if name is None:
            problems.append(
                f"keys.{action} = '{key}' is not a key; write one such as ctrl+t, alt+up, f5 or a letter."
            )
        elif _is_typed(name) and _BY_ID[action].scope in _WHILE_TYPING:
            problems.append(
                f"keys.{action} = '{key}' could not be typed any more, as it works while you write; "
                f"write it with ctrl or alt."
            )
        else:
            if name in _SAME_BYTES:
                problems.append(
                    f"keys.{action} = '{key}' is {_SAME_BYTES[name]} in many terminals, which cannot tell "
                    "the two apart; another key is safer."
                )
            yield name


def _is_typed(name: str) -> bool:
    """Whether the key types a character."""
    from textual.keys import key_to_character

    return name == "space" or key_to_character(name) is not None


def _overlap(one: Action, other: Action) -> bool:
    """Whether both actions can be active at once."""
    scopes = {one.scope, other.scope}
    inside = {"chat": _IN_CHAT, "dialog": _OVER_CHAT}
    return (
        len(scopes) == 1
        or "app" in scopes
        or any(outer in scopes and scopes & set(inner) for outer, inner in inside.items())
    )


@cache
def _named_keys() -> frozenset[str]:
    """Names such as "escape", "f5" and "slash"; `_OTHER_NAMES` has turned "return" into "enter"."""
    from textual.keys import Keys

    names = {key.value for key in Keys if key.value.isalnum()} - {"return"}
    return frozenset(names | {_sign_name(sign) for sign in string.punctuation} | {"space"})


def _sign_name(sign: str) -> str:
    from textual.keys import KEY_NAME_REPLACEMENTS

    name = unicodedata.name(sign, sign).lower().replace("-", "_").replace(" ", "_")
    return KEY_NAME_REPLACEMENTS.get(name, name)
