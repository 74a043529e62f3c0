"""The doctor's report: a line for each check, with advice unless it is ok; checks change nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.paths import config_home, data_home
from minigpt4.core.weights.repacking import Repacking
from minigpt4.tui.doctor import checks as doctor
from minigpt4.tui.doctor import terminal as doctor_terminal
from minigpt4.tui.doctor.checks import safely
from minigpt4.tui.doctor.finding import Finding, State
from minigpt4.tui.history.store import Store
from minigpt4.tui.settings.file import settings_path

Run = Callable[..., subprocess.CompletedProcess[str]]


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def test_every_line_has_a_state_and_what_is_amiss_has_a_way_out(run_minigpt4: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run_minigpt4("doctor", "--json", env={"MINIGPT4_HOME": str(home)})
    lines = json.loads(done.stdout)
    names = [line["name"] for line in lines]
    for name in ("python", "sqlite", "packages", "terminal", "pictures", "clipboard", "data", "settings"):
        assert name in names
    for name in ("themes", "bundle", "memory", "conversations", "llama.cpp", "torch"):
        assert name in names
    assert {line["state"] for line in lines} <= {"ok", "warning", "problem"}
    assert [line for line in lines if not line["advice"] and line["state"] != "ok"] == []
    assert done.returncode == (1 if "problem" in [line["state"] for line in lines] else 0)
    assert any("models pull mini" in line["advice"] for line in lines)
    assert not home.exists(), "the doctor makes nothing"


@pytest.mark.parametrize(("state", "code"), [("warning", 0), ("problem", 1)])
def test_lines_for_people_hold_no_escape_codes_in_a_pipe(
    call_minigpt4: Run, monkeypatch: pytest.MonkeyPatch, state: State, code: int
) -> None:
    found = [Finding("python", "ok", "3"), Finding("themes", state, "a\x1b[31m\nb", "mend\u202e it")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(found))
    done = call_minigpt4("doctor")
    first, second, third = (line.split() for line in done.stdout.splitlines())
    assert first == ["ok", "python", "3"]
    assert second == [state, "themes", "a?[31m", "b"]
    assert third == ["->", "mend?", "it"]
    assert done.returncode == code


def test_a_check_that_breaks_is_a_finding_and_the_others_continue() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("a", "ok", "")
        raise ValueError("odd")

    def says() -> Iterator[Finding]:
        raise UsageError("A sentence.")
        yield

    assert [found.state for found in safely("a", breaks)] == ["ok", "problem"]
    assert only(safely("a", says)).detail == "A sentence."


# -- folders, settings, themes, bundles, memory -----------------------------------------------------


def test_folders_that_are_not_there_yet_are_judged_by_where_they_would_be() -> None:
    assert [found.state for found in doctor.folders()] == ["ok"] * 3
    assert not data_home().exists()


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of the system, not made: nothing is forbidden to root, who runs tests in containers.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert {found.state for found in doctor.folders()} == {"problem"}


def test_a_file_in_a_folders_place_is_a_problem() -> None:
    data_home().parent.mkdir(parents=True, exist_ok=True)
    data_home().write_text("")
    found = {found.name: found for found in doctor.folders()}
    assert found["data"].state == "problem" and found["data"].advice


@pytest.mark.parametrize(("free", "state"), [(10**10, "ok"), (5 * 10**8, "warning"), (10**6, "problem")])
def test_little_room_is_reported(monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"free": free}))
    assert {found.state for found in doctor.folders()} == {state}


def test_slips_in_the_settings_are_warnings() -> None:
    assert only(doctor.settings()).state == "ok"
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text('them = "paper"\nimages = "kity"')
    assert [found.state for found in doctor.settings()] == ["warning", "warning"]


def test_a_broken_theme_is_a_warning() -> None:
    path = config_home() / "themes" / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text("primary = ")
    broken, rest = doctor.themes()
    assert broken.state == "warning" and str(path) in broken.detail
    assert rest.state == "ok" and "1 of them in" in rest.detail


def test_only_the_chosen_bundle_has_to_be_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for chosen in ("mini", "minigpt4-vicuna-7b"):
        monkeypatch.setenv("MINIGPT4_BUNDLE", chosen)
        lacking = [found for found in doctor.bundles() if found.state != "ok"]
        assert [found.detail for found in lacking] == [f"{chosen}, the chosen one, is not downloaded yet"]
        assert f"`minigpt4 models pull {chosen}`" in lacking[0].advice


def test_a_broken_manifest_is_a_problem_of_its_own() -> None:
    path = config_home() / "bundles" / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text("summary = ")
    found = list(doctor.bundles())
    (broken,) = [one for one in found if one.state == "problem"]
    assert str(path) in broken.detail and broken.advice
    assert len(found) > 1


def test_too_little_memory_for_the_chosen_bundle_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import minigpt4.core.memory

    monkeypatch.setenv("MINIGPT4_BUNDLE", "minigpt4-vicuna-13b")
    monkeypatch.setattr(minigpt4.core.memory, "free_memory", lambda: 2 << 30)
    found = only(doctor.memory())
    assert found.state == "warning" and "'minigpt4-vicuna-13b' needs" in found.detail


@pytest.mark.parametrize(
    ("verdict", "state", "said"),
    [
        (Repacking(types=("Q4_0",), copied=3 << 30), "ok", "on for 'minigpt4-vicuna-7b': 3.0 GiB of Q4_0"),
        (Repacking(), "ok", "no repacked form"),
        (Repacking("ended with SIGSEGV"), "warning", "a trial in another process ended with SIGSEGV"),
        (Repacking("failed (odd)", is_settled=False), "warning", "a trial in another process failed (odd)"),
    ],
)
def test_whether_weights_are_repacked_is_told(
    monkeypatch: pytest.MonkeyPatch, verdict: Repacking, state: State, said: str
) -> None:
    import minigpt4.core.memory
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.weights import repacking
    from minigpt4.core.weights.locate import gguf_path

    pytest.importorskip("llama_cpp")
    monkeypatch.setenv("MINIGPT4_BUNDLE", "minigpt4-vicuna-7b")
    assert list(doctor.repacking()) == [], "there is nothing to repack yet"
    path = gguf_path(load_bundle("minigpt4-vicuna-7b"), "Q4_0")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(2 << 30)
    monkeypatch.setattr(repacking, "known_repacking", lambda _: verdict)
    monkeypatch.setattr(minigpt4.core.memory, "free_memory", lambda: 64 << 30)
    found = only(doctor.repacking())
    assert (found.state, said in found.detail) == (state, True)
    assert bool(found.advice) == (state != "ok")
    if state == "ok" and verdict.types:
        monkeypatch.setattr(minigpt4.core.memory, "free_memory", lambda: 2 << 30)
        lacking = only(doctor.repacking())
        assert lacking.state == "warning" and "would have to be free" in lacking.detail
    monkeypatch.setenv("MINIGPT4_REPACK", "false")
    assert only(doctor.repacking()).detail == "off, as set"


def test_weights_are_tried_out_without_a_trace(monkeypatch: pytest.MonkeyPatch, mini_home: Path) -> None:
    from minigpt4.core.weights import repacking

    pytest.importorskip("llama_cpp")
    monkeypatch.setattr(repacking, "known_repacking", lambda _: None)
    verdict = '{"types": [], "copied": 0}'
    monkeypatch.setattr(repacking, "COMMAND", (sys.executable, "-c", f"print({verdict!r})"))
    before = sorted((mini_home / "cache").rglob("*"))
    assert "no repacked form" in only(doctor.repacking()).detail
    assert sorted((mini_home / "cache").rglob("*")) == before


# -- conversations ------------------------------------------------------------------------------------


def database() -> Path:
    return data_home() / "conversations.sqlite3"


def test_conversations_are_counted_and_not_changed() -> None:
    assert only(doctor.conversations()).detail == "none saved yet"
    store = Store.open()
    store.new_conversation()
    store.close()
    before = database().read_bytes()
    found = only(doctor.conversations())
    assert found.state == "ok" and "1 saved, intact" in found.detail
    assert database().read_bytes() == before


def test_conversations_are_looked_at_while_the_app_is_open() -> None:
    store = Store.open()
    store.new_conversation()
    assert only(doctor.conversations()).state == "ok"
    store.close()


def test_a_damaged_file_of_conversations_is_a_problem_and_stays_as_it_is() -> None:
    database().parent.mkdir(parents=True, exist_ok=True)
    database().write_bytes(b"not a database" * 100)
    found = only(doctor.conversations())
    assert found.state == "problem" and found.advice
    assert database().read_bytes() == b"not a database" * 100


def test_a_file_of_a_newer_minigpt4_or_of_another_program_is_reported() -> None:
    Store.open().close()
    connection = sqlite3.connect(database())
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    assert "newer minigpt4" in only(doctor.conversations()).detail
    connection = sqlite3.connect(database())
    connection.execute("PRAGMA application_id = 7")
    connection.close()
    assert "another program's" in only(doctor.conversations()).detail


def test_a_file_that_another_program_holds_is_a_warning() -> None:
    Store.open().close()
    connection = sqlite3.connect(database())
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    assert only(doctor.conversations()).state == "warning"
    connection.close()


# -- terminal and clipboard ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "tool", "state", "text"),
    [
        ({"WAYLAND_DISPLAY": "wayland-0"}, None, "warning", "no wl-paste"),
        ({"DISPLAY": ":0"}, None, "warning", "no xclip"),
        ({"DISPLAY": ":0"}, "/bin/xclip", "ok", "/bin/xclip"),
        ({"SSH_CONNECTION": "a b"}, None, "ok", "over SSH"),
        ({}, None, "ok", "no desktop here"),
    ],
)
def test_the_clipboards_tool_is_looked_for_where_there_is_a_desktop(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], tool: str | None, state: str, text: str
) -> None:
    for name in ("WAYLAND_DISPLAY", "DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda _: tool)
    found = only(doctor_terminal.clipboard())
    assert found.state == state and text in found.detail
    assert bool(found.advice) == (state != "ok")


@pytest.mark.parametrize(
    ("setting", "environment", "state", "text"),
    [
        ("halfblock", {}, "ok", "half-blocks, two pixels a cell, as set"),
        ("auto", {"TERM": "xterm-kitty"}, "ok", "kitty's graphics protocol, as detected"),
        ("kitty", {"TMUX": "x"}, "warning", "as set"),
        ("off", {}, "ok", "not drawn"),
    ],
)
def test_the_way_pictures_are_drawn_is_reported(
    monkeypatch: pytest.MonkeyPatch, setting: str, environment: dict[str, str], state: str, text: str
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("TMUX", raising=False)
    for name, value in {"MINIGPT4_IMAGES": setting, **environment}.items():
        monkeypatch.setenv(name, value)
    found = only(doctor_terminal.pictures())
    assert found.state == state and text in found.detail


def test_without_a_terminal_chat_goes_line_by_line() -> None:
    found = only(doctor_terminal.terminal())
    assert found.state == "ok" and "line by line" in found.detail


@pytest.mark.parametrize(
    ("term", "size", "state"),
    [
        ("xterm-256color", (120, 40), "ok"),
        ("xterm-256color", (80, 24), "ok"),
        ("xterm-256color", (79, 24), "warning"),
        ("xterm-256color", (80, 20), "warning"),
        ("dumb", (120, 40), "warning"),
    ],
)
def test_a_terminal_too_small_or_too_plain_is_reported(
    monkeypatch: pytest.MonkeyPatch, term: str, size: tuple[int, int], state: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size(size))
    assert only(doctor_terminal.terminal()).state == state


def test_a_locale_without_unicode_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal("ANSI_X3.4-1968"))
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "letters" in [found.name for found in doctor_terminal.terminal()]


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = encoding

    def isatty(self) -> bool:
        return True
