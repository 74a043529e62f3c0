"""Keys: every action has one, a person's own stand before ours, and what cannot work is told."""

from __future__ import annotations

import string
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.tui.settings.keys import ACTIONS, SCOPES, UNBOUND, bindings, key_name


def test_the_shipped_keys_are_in_nobodys_way() -> None:
    assert bindings({}).clashes == ()


def test_every_action_has_an_id_of_its_own_a_key_and_a_known_scope() -> None:
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    assert all(action.keys and action.about and action.scope in SCOPES for action in ACTIONS)


def test_shipped_keys_are_written_as_textual_writes_them() -> None:
    assert [(key, key_name(key)) for action in ACTIONS for key in action.keys if key_name(key) != key] == []


@pytest.mark.parametrize("key", ["ctrl+i", "ctrl+m", "ctrl+h"])
def test_no_shipped_key_is_another_one_in_many_terminals(key: str) -> None:
    assert [action.id for action in ACTIONS if key in action.keys] == []


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Ctrl+T", "ctrl+t"),
        ("control+shift+left", "ctrl+shift+left"),
        ("shift+ctrl+alt+x", "alt+ctrl+shift+x"),
        ("shift+a", "A"),
        ("ctrl+/", "ctrl+slash"),
        ("ctrl++", "ctrl+plus"),
        ("+", "plus"),
        ("?", "question_mark"),
        (",", "comma"),
        ("Esc", "escape"),
        ("return", "enter"),
        ("PgUp", "pageup"),
        (" f5 ", "f5"),
    ],
)
def test_a_key_may_be_written_in_the_usual_ways(written: str, name: str) -> None:
    assert key_name(written) == name


@pytest.mark.parametrize(
    "written", ["", " ", "ctrl+", "ctrl", "hello", "x+y", "f99", "ctrl+\x07", "+a", "ctrl++a"]
)
def test_what_is_no_key_has_no_name(written: str) -> None:
    assert key_name(written) is None


@given(st.text(string.printable, max_size=20))
def test_a_keys_name_is_its_own_name(written: str) -> None:
    name = key_name(written)
    assert name is None or key_name(name) == name


def test_a_users_key_takes_the_place_of_ours() -> None:
    found = bindings({"quit": ("ctrl+x",)})
    assert found.keys["quit"] == ("ctrl+x",)
    assert found.clashes == ()


def test_a_users_key_is_taken_from_the_action_that_had_it_and_reported() -> None:
    found = bindings({"quit": ("ctrl+t",)})
    assert found.keys["quit"] == ("ctrl+t",)
    assert found.keys["themes"] == ()
    assert len(found.clashes) == 1
    assert "'ctrl+t'" in found.clashes[0] and "'quit'" in found.clashes[0] and "'themes'" in found.clashes[0]


def test_of_two_actions_given_one_key_the_first_of_the_table_keeps_it() -> None:
    found = bindings({"settings": ("f12",), "help": ("f12",)})
    assert (found.keys["help"], found.keys["settings"]) == (("f12",), ())
    assert "'help' keeps it" in found.clashes[0]


def test_one_key_may_mean_two_things_at_places_that_never_meet() -> None:
    assert bindings({"delete_conversation": ("x",), "copy_message": ("x",)}).clashes == ()


def test_a_key_that_works_everywhere_clashes_with_one_of_any_place() -> None:
    assert bindings({"quit": ("f8",)}).keys["restart_engine"] == ()


def test_an_action_may_be_left_without_a_key() -> None:
    found = bindings({"export": ()})
    assert found.keys["export"] == () and found.clashes == ()
    assert found.keymap()["export"] == UNBOUND


def test_an_unknown_action_gets_the_nearest_suggested() -> None:
    assert "did you mean 'quit'?" in bindings({"quti": ("f5",)}).clashes[0]


def test_what_is_no_key_is_reported_and_the_default_holds() -> None:
    found = bindings({"quit": ("ctrl+banana",)})
    assert found.keys["quit"] == ("ctrl+q",)
    assert "keys.quit = 'ctrl+banana' is not a key" in found.clashes[0]


@pytest.mark.parametrize("key", ["q", "?", "space", "Q"])
def test_a_letter_that_could_not_be_typed_any_more_is_refused(key: str) -> None:
    found = bindings({"quit": (key,)})
    assert found.keys["quit"] == ("ctrl+q",)
    assert "could not be typed" in found.clashes[0]


def test_a_letter_is_fine_where_nothing_is_typed() -> None:
    found = bindings({"copy_message": ("x",)})
    assert found.keys["copy_message"] == ("x",) and found.clashes == ()


def test_a_key_that_is_tab_in_many_terminals_is_reported() -> None:
    found = bindings({"themes": ("ctrl+i",)})
    assert found.keys["themes"] == ("ctrl+i",)
    assert "Tab in many terminals" in found.clashes[0]


async def test_textual_takes_the_keymap() -> None:
    from textual.app import App
    from textual.binding import Binding, BindingType

    class Keyed(App[None]):
        BINDINGS: ClassVar[list[BindingType]] = [
            Binding(",".join(action.keys), f"note('{action.id}')", id=action.id) for action in ACTIONS
        ]
        noted: str = ""

        def action_note(self, action: str) -> None:
            self.noted = action

    app = Keyed()
    async with app.run_test() as pilot:
        app.set_keymap(bindings({"search": ("ctrl+/",), "edit_last": ()}).keymap())
        await pilot.press("ctrl+slash")
        assert app.noted == "search"
        app.noted = ""
        await pilot.press("ctrl+up")
        assert app.noted == ""
