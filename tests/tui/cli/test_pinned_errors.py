"""What the program answers to bad input, held to the letter: exit code and every line on both streams.

`pinned/cases/*.toml` tells how each case is set up and what is typed, `pinned/errors.json` what came of
it, with the case's own folder written as <tmp>. Only the command line is used, so that these tests hold
through any moving of modules. After a change of wording that is meant,

    PIN=1 python -m pytest tests/tui/cli/test_pinned_errors.py

writes errors.json anew (with -k only the cases that ran); review its diff by hand.

A case of `pinned/cases` is a table:

    arguments   what is typed after `minigpt4`; <tmp> is the case's folder, in which it runs
    process     true: in a process of its own, as what imports torch or is to be ended by signals
    mini        true: in a home where the model `mini` is, not in an empty one
    stdin       the text on standard input
    env         environment variables
    files       what lies in the folder before, by path; `home/config` is where settings are. Each is a
                text, or a table: { folder = true }, { link = "to where" }, { picture = "whole.png" },
                { base64 = "..." }, or a file of pinned/files, with another after it if need be, and then
                edited: { like = "manifest.toml", add = "qformer.toml", edit = [["old", "new"], ...] }
    accepted    true: what is amiss is told, or not even that, and the exit code is 0
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PINNED = Path(__file__).parent / "pinned"
ERRORS = PINNED / "errors.json"
REPOSITORY = Path(__file__).parents[3]

Case = dict[str, Any]
Outcome = dict[str, Any]


def read_cases() -> dict[str, Case]:
    """All cases by name; the file's name is the first word of each."""
    cases: dict[str, Case] = {}
    for path in sorted((PINNED / "cases").glob("*.toml")):
        for name, case in tomllib.loads(path.read_text("utf-8")).items():
            cases[f"{path.stem}: {name}"] = case
    return cases


CASES = read_cases()
IS_PINNING = bool(os.environ.get("PIN"))


def read_pinned() -> dict[str, Outcome]:
    pinned: dict[str, Outcome] = json.loads(ERRORS.read_text("utf-8")) if ERRORS.exists() else {}
    return pinned


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Outcome]]:
    """What is pinned, by case; with PIN set, what the tests put into it is written at the end."""
    pinned = read_pinned()
    if IS_PINNING:
        pinned = {name: outcome for name, outcome in pinned.items() if name in CASES}
    yield pinned
    if IS_PINNING:
        in_order = dict(sorted(pinned.items()))
        ERRORS.write_text(json.dumps(in_order, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture
def answer(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_minigpt4: Callable[..., subprocess.CompletedProcess[str]],
    call_minigpt4: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[[Case], Outcome]:
    """Set a case up in an empty folder, run it there, and tell what came of it."""

    def run(case: Case) -> Outcome:
        home = request.getfixturevalue("mini_home") if case.get("mini") else tmp_path / "home"
        for path, content in case.get("files", {}).items():
            put(tmp_path / path, content)
        arguments = [argument.replace("<tmp>", str(tmp_path)) for argument in case["arguments"]]
        stdin = case.get("stdin", "").encode()
        env = {"MINIGPT4_HOME": str(home), "COLUMNS": "80", **case.get("env", {})}
        if case.get("process"):
            done = run_minigpt4(*arguments, stdin=stdin, env=env)
        else:
            for variable in [name for name in os.environ if name.startswith("MINIGPT4_")]:
                monkeypatch.delenv(variable)
            for variable, value in env.items():
                monkeypatch.setenv(variable, value)
            monkeypatch.setenv("NO_COLOR", "1")
            monkeypatch.chdir(tmp_path)
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            done = call_minigpt4(*arguments)

        def plain(text: str) -> list[str]:
            text = text.replace(str(tmp_path), "<tmp>")
            text = re.sub(r"\d{8}-\d{6}", "<time>", text)
            # Where files that come with the program lie may change; what they are called may not.
            return re.sub(re.escape(str(REPOSITORY)) + r"/(?:[\w.-]+/)*", "<shipped>/", text).splitlines()

        found: Outcome = {
            "typed": " ".join(["minigpt4", *case["arguments"]]),
            "exit": done.returncode,
            "stderr": plain(done.stderr),
        }
        stdout = plain(done.stdout)
        return {**found, "stdout": stdout} if stdout else found

    return run


@pytest.mark.parametrize("name", CASES)
def test_the_answer_to_bad_input_is_as_it_was(
    name: str, answer: Callable[[Case], Outcome], outcomes: dict[str, Outcome]
) -> None:
    found = answer(CASES[name])
    if IS_PINNING:
        outcomes[name] = found
    assert found == outcomes.get(name), "is that meant? Then PIN=1 writes it down; see this file's beginning"


def test_there_are_many_cases_and_none_without_an_answer(outcomes: dict[str, Outcome]) -> None:
    assert len(CASES) >= 75
    assert outcomes.keys() >= CASES.keys()
    assert outcomes.keys() <= CASES.keys(), "errors.json holds cases that are no more"
    kinds = {name.partition(":")[0] for name in CASES}
    assert len(kinds) >= 10


SEVERAL = {
    "data: prepare a broken list",
    "data: prepare a list of nothing",
    "data: prepare more than there are",
    "data: prepare with a ratio too long",
    "history: a database that is damaged",
    "keys: a key given to two",
    "pictures: all bad with --each",
    "settings: a bad backend of the environment is told by ask",
    "settings: out of bounds",
    "settings: unknown value of a choice",
}
"""What says more than one line: a line of progress comes first, or several things are wrong."""

REPORTS = {"models: verify what is not here", "models: verify as JSON what is not here"}
"""What tells its findings on standard output, and nothing on standard error."""


def test_every_error_is_one_line_without_a_traceback(outcomes: dict[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        lines = outcome["stderr"]
        text = "\n".join(lines + outcome.get("stdout", []))
        assert "Traceback" not in text, name
        assert "This is a bug in minigpt4" not in text, name
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text), name
        if CASES[name].get("accepted"):
            assert outcome["exit"] == 0, name
            continue
        assert outcome["exit"] in (1, 2), name
        assert len(lines) == 1 or len(lines) > 1 and name in SEVERAL or not lines and name in REPORTS, name
        assert all(line[-1] in ".?!)" for line in lines), name


def put(path: Path, content: str | dict[str, Any]) -> None:
    """Make one file, folder or link of a case."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match content:
        case str():
            path.write_text(content, encoding="utf-8")
        case {"folder": True}:
            path.mkdir()
        case {"link": str(target)}:
            path.symlink_to(target)
        case {"picture": str(kind)}:
            path.write_bytes(picture(kind))
        case {"base64": str(text)}:
            path.write_bytes(base64.b64decode(text))
        case {"like": str(name), **rest}:
            text = (PINNED / "files" / name).read_text("utf-8")
            if "add" in rest:
                text += "\n" + (PINNED / "files" / rest["add"]).read_text("utf-8")
            for old, new in rest.get("edit", []):
                assert text.count(old) == 1, f"{old!r} is not once in {name}"
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")
        case _:
            raise ValueError(f"{path}: {content!r} is no file of a case")


def picture(kind: str) -> bytes:
    """The bytes of a picture that is whole, cut off, or promises far too many pixels."""
    buffer = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    noise.save(buffer, "JPEG" if kind.endswith(".jpg") else "PNG")
    whole = bytearray(buffer.getvalue())
    match kind.partition(".")[0]:
        case "whole":
            return bytes(whole)
        case "half":
            return bytes(whole[: len(whole) // (8 if kind.endswith(".jpg") else 3)])
        case "header":
            return bytes(whole[:12])
        case "bomb":
            whole[16:24] = (65_535).to_bytes(4, "big") * 2
            whole[29:33] = zlib.crc32(bytes(whole[12:29])).to_bytes(4, "big")
            return bytes(whole)
    raise ValueError(f"there is no picture '{kind}'")
