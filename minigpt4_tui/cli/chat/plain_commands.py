"""The slash commands of the plain chat, apart from questions; most print a sentence or a list."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.errors import UsageError
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.storage.atomic import replacing
from minigpt4.tui.cli.chat.line_input import at_terminal
from minigpt4.tui.cli.chat.plain_copy import code, copy
from minigpt4.tui.cli.chat.plain_pictures import asked_by_you, attach_line, pick
from minigpt4.tui.conversation.html_page import NO_PAGE, free_name, open_page, page_in, save_new
from minigpt4.tui.conversation.slash_commands import plain_commands
from minigpt4.tui.history.records import HIT, HIT_END, SHOWN_ID, StoredMessage
from minigpt4.tui.images.attachments import MAX_DROP, path_in
from minigpt4.tui.terminal.messages import printable, say
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line

if TYPE_CHECKING:
    from minigpt4.tui.cli.chat.plain import PlainChat
    from minigpt4.tui.cli.chat.plain_model import PlainModel
    from minigpt4.tui.history.store import ConversationInfo, Store

LISTED = 20
"""Conversations that /history and /search list."""

EXPORTS = (".md", ".html", ".json")


def run_command(chat: PlainChat, name: str, rest: str) -> None:
    """Run a command; raises UsageError for arguments that it cannot use."""
    ACTIONS[name](chat, rest)


def _help(chat: PlainChat, rest: str) -> None:
    del chat, rest
    for command in plain_commands():
        words = command.plain.split()
        count = next((at for at, word in enumerate(words) if not word.strip(".").isupper()), 0)
        call = " ".join([command.name, *words[:count]])
        say(f"{call:<22} {' '.join(words[count:])}")


def _paste(chat: PlainChat, rest: str) -> None:
    from minigpt4.tui.images.attachments import Attachment
    from minigpt4.tui.images.clipboard import clipboard_image

    del rest
    one = Attachment(clipboard_image(), "clipboard")
    chat.attach(one.open(), one)


def _history(chat: PlainChat, rest: str) -> None:
    del rest
    infos = _store(chat).conversations(LISTED)
    _list(chat, [info.id for info in infos], map(_described, infos), "There is no conversation yet.")


def _search(chat: PlainChat, rest: str) -> None:
    if not rest:
        raise UsageError("/search needs the words to look for, as in `/search red car`.")
    hits = _store(chat).search(rest, LISTED)
    lines = (
        f"{sanitize_line(hit.title, 60) or '(empty)'}: "
        f"{sanitize_line(hit.snippet.replace(HIT, '').replace(HIT_END, ''), 200)}"
        for hit in hits
    )
    _list(chat, [hit.conversation for hit in hits], lines, "Nothing was found.")


def _list(chat: PlainChat, ids: list[str], lines: Iterator[str], nothing: str) -> None:
    chat.listed = ids
    for number, line in enumerate(lines, start=1):
        say(f"{number}. {line}")
    say("/open NUMBER opens one of them." if ids else nothing)


def _open(chat: PlainChat, rest: str) -> None:
    if not rest:
        raise UsageError("/open needs a number of the last list, or an id; /history lists the conversations.")
    store = _store(chat)
    is_number = rest.isdecimal() and len(rest) <= len(str(LISTED))
    if is_number and not 1 <= int(rest) <= len(chat.listed):
        count = len(chat.listed)
        raise UsageError(
            f"There is no number {int(rest)} in the last list, which has {count}; /history makes a new one."
        )
    chat.open(store.get(chat.listed[int(rest) - 1]) if is_number else store.find(rest))


def _variants(chat: PlainChat, rest: str) -> None:
    _store(chat)
    found = chat.record.variants()
    if not found:
        raise UsageError("There is no answer yet; ask something first.")
    if rest:
        is_number = rest.isdecimal() and len(rest) <= len(str(len(found)))
        if not is_number or not 1 <= int(rest) <= len(found):
            shown = sanitize_line(rest, 40)
            raise UsageError(f"There is no answer '{shown}'; /variants lists them, from 1 to {len(found)}.")
        chat.go_on_from(found[int(rest) - 1][1])
        say(f"Answer {int(rest)} of {len(found)} counts from now on.")
        return
    current = {one.id for one in chat.record.path()}
    wordings = {question.id for question, _ in found}
    for number, (question, answer) in enumerate(found, start=1):
        asked = f" to '{sanitize_line(question.text, 60)}'" if len(wordings) > 1 else ""
        mark = ", the one that counts" if answer.id in current else ""
        say(f"Answer {number}{asked}{mark}: {sanitize_line(answer.text, 500)}")
    say("/variants NUMBER goes on from another one." if len(found) > 1 else "/again asks for another one.")


def _remove(chat: PlainChat, rest: str) -> None:
    waiting = chat.pending
    if not waiting:
        raise UsageError("No picture waits for your next question.")
    named = [at for at, one in enumerate(waiting) if one.source.name == rest] if rest else [len(waiting) - 1]
    if not named:
        names = ", ".join(one.described.rpartition(", ")[0] for one in waiting)
        raise UsageError(f"No picture '{sanitize_line(rest, 80)}' waits for your next question, but {names}.")
    say(f"Removed {waiting.pop(named[-1]).described}.")


def _show(chat: PlainChat, rest: str) -> None:
    del rest
    if not chat.conversation and not chat.pending:
        say("Nothing was said yet.")
    for one in chat.record.path() or chat.conversation:
        if isinstance(one, StoredMessage):
            if one.text:
                say(f"{asked_by_you(one) if one.role == 'user' else 'Answer'}: {sanitize(one.text)}")
        else:
            say(_spoken(one))
    if chat.pending:
        say(f"With your next question: {'; '.join(one.described for one in chat.pending)}.")


def _spoken(message: Message) -> str:
    """A message of a chat that is not saved: only the number of its pictures is known."""
    if not isinstance(message, User):
        return f"Answer: {sanitize(message.text)}"
    count = len(message.images)
    pictures = f" about {count} picture{'s' * (count > 1)}" if count else ""
    return f"You asked{pictures}: {sanitize(message.text)}"


def _title(chat: PlainChat, rest: str) -> None:
    if not rest:
        raise UsageError("/title needs the new title, as in `/title My cats`.")
    _store(chat).rename(_current(chat).id, rest)
    say(f"The conversation is called '{sanitize_line(rest, 80)}' now.")


def _delete(chat: PlainChat, rest: str) -> None:
    del rest
    store, info = _store(chat), _current(chat)
    if not _confirmed(chat, f"Delete '{sanitize_line(info.title, 60)}'?", in_script=True):
        say("Not deleted.")
        return
    store.delete(info.id)
    say("Deleted; /undelete brings it back.")
    chat.clear()


def _undelete(chat: PlainChat, rest: str) -> None:
    del rest
    store = _store(chat)
    if not (deleted := store.deleted()):
        raise UsageError("No conversation was deleted lately.")
    store.undelete(deleted[0].id)
    chat.open(store.get(deleted[0].id))


def _pin(chat: PlainChat, rest: str) -> None:
    del rest
    store = _store(chat)
    info = store.get(_current(chat).id)
    store.pin(info.id, not info.pinned)
    say("It is no longer pinned." if info.pinned else "/history lists it first now; /pin again lets it go.")


def _editor(chat: PlainChat, rest: str) -> None:
    from minigpt4.tui.terminal.editor import edit

    if not (at_terminal() and sys.stdout.isatty()):
        raise UsageError("/editor needs a terminal; here every line is a question of its own.")
    if text := edit(rest, MAX_DROP).strip():
        chat.ask_line(text)
    else:
        say("Nothing was written, so nothing was asked.")


def _export(chat: PlainChat, rest: str) -> None:
    from minigpt4.tui.history.export import to_html, to_markdown
    from minigpt4.tui.history.json_format import to_json

    target = path_in(rest) if rest else Path()
    if target.suffix.lower() not in EXPORTS:
        raise UsageError("/export needs a file that ends in .md, .html or .json, as in `/export cats.html`.")
    store, info = _store(chat), _current(chat)
    if target.exists():
        raise UsageError(f"'{printable(str(target))}' is there already; give another name.")
    try:
        if target.suffix.lower() == ".md":
            to_markdown(store, info.id, target.parent).replace(target)
        else:
            is_page = target.suffix.lower() == ".html"
            text = to_html(store, info.id) if is_page else to_json(store, [info.id])
            with replacing(target) as draft:
                draft.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"'{printable(str(target))}' cannot be written: {error.strerror or error}."
        ) from error
    say(f"Saved {printable(str(target))}.")


def _save_html(chat: PlainChat, rest: str) -> None:
    page = page_in(one.text for one in reversed(chat.conversation) if isinstance(one, Assistant))
    if not page:
        raise UsageError(NO_PAGE)
    path = path_in(rest) if rest else free_name(Path.cwd())
    save_new(page, path)
    say(f"Saved {printable(str(path))}.")
    warning = "A browser runs the scripts in it, and they may load from the web. Open it?"
    if _confirmed(chat, warning, in_script=False):
        open_page(path)


def _models(chat: PlainChat, rest: str) -> None:
    model = _model(chat)
    if rest:
        chat.change({"bundle": rest}, "flag")
        say(f"{printable(rest)} answers from now on.")
        return
    from minigpt4.tui.models.bundle_info import all_bundles

    for info in all_bundles():
        here = {"here": "downloaded", "partly": "partly downloaded", "absent": "not downloaded"}
        mark = ", in use" if model.chosen.model.bundle_name == info.name else ""
        say(f"{info.name}: {here.get(info.state, info.state)}{mark}. {sanitize_line(info.summary)}")
    say("/models NAME switches to another one; `minigpt4 models pull NAME` downloads it.")


def _settings(chat: PlainChat, rest: str) -> None:
    from minigpt4.core.storage.dataclass_toml import InvalidValueError
    from minigpt4.tui.settings.settings import entry, save_setting, schema

    model = _model(chat)
    name, _, text = rest.partition(" ")
    if not name:
        for one in schema():
            if one.name != "keys":
                value = getattr(model.loaded.settings, one.name)
                shown = "not set" if value is None else sanitize_line(str(value), 200)
                say(f"{one.name}: {shown} ({model.loaded.origins[one.name]}). {one.about}")
        say("/settings NAME VALUE changes one; without a value it is the default again.")
        return
    setting = entry(name.replace("-", "_"))
    try:
        value = setting.parsed(text)
    except InvalidValueError as problem:
        raise UsageError(str(problem)) from problem
    chat.change({setting.name: value}, "file")
    save_setting(setting.name, value if text.strip() else None)
    say(f"{setting.name} is {printable(text.strip()) or 'the default'} now, also in later chats.")


def _themes(chat: PlainChat, rest: str) -> None:
    from minigpt4.themes import theme_names

    model = _model(chat)
    if rest:
        _settings(chat, f"theme {rest}")
        return
    for name in theme_names():
        say(f"{printable(name)}{', in use' * (name == model.loaded.settings.theme)}")
    say("/themes NAME chooses one, for the app, too.")


def _restart(chat: PlainChat, rest: str) -> None:
    del rest
    model = _model(chat)
    model.restart()
    chat.engine = model.engine
    chat.look_again()
    say("The model was started again.")


def _confirmed(chat: PlainChat, question: str, *, in_script: bool) -> bool:
    """Ask a yes-or-no question at a terminal; returns `in_script` if nobody can be asked."""
    if not at_terminal():
        return in_script
    say(f"{question} y or n")
    return chat.next_line().strip().lower() in ("y", "yes")


def _model(chat: PlainChat) -> PlainModel:
    if chat.model is None:
        raise UsageError("The model of this chat is fixed.")
    return chat.model


def _store(chat: PlainChat) -> Store:
    """The history; raises UsageError if this chat is not saved."""
    if chat.record.store is None:
        raise UsageError("This chat is not saved, so it has no history.")
    return chat.record.store


def _current(chat: PlainChat) -> ConversationInfo:
    if chat.record.conversation is None:
        raise UsageError("There is no conversation yet; ask something first.")
    return chat.record.conversation


def _described(info: ConversationInfo) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.updated))
    count = "1 message" if info.messages == 1 else f"{info.messages} messages"
    return f"{sanitize_line(info.title, 60) or '(empty)'}, {count}, {when}, id {info.id[:SHOWN_ID]}"


ACTIONS: dict[str, Callable[[Any, str], None]] = {
    "/image": attach_line,
    "/paste": _paste,
    "/clear": lambda chat, _: chat.clear(),
    "/new": lambda chat, _: chat.clear(),
    "/again": lambda chat, _: chat.again(),
    "/continue": lambda chat, _: chat.go_on(),
    "/edit": lambda chat, rest: chat.edit(rest),
    "/editor": _editor,
    "/variants": _variants,
    "/pick": pick,
    "/remove": _remove,
    "/copy": copy,
    "/code": code,
    "/save-html": _save_html,
    "/history": _history,
    "/search": _search,
    "/open": _open,
    "/show": _show,
    "/title": _title,
    "/pin": _pin,
    "/delete": _delete,
    "/undelete": _undelete,
    "/export": _export,
    "/models": _models,
    "/settings": _settings,
    "/themes": _themes,
    "/restart": _restart,
    "/help": _help,
}
"""Commands by name, except /quit, which ends the chat."""
