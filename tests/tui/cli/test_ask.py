"""`minigpt4 ask` with the real model, as a shell would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from minigpt4.core.reply import Piece
from minigpt4.tui.cli import options

Call = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.usefixtures("mini_home")

QUESTION = "What is in this picture?"
SHORT = ("--max-tokens", "8", "--greedy")
STORY = "Tell me a long story about the sea."
NO_PICTURE = (
    "(No picture is attached, so the model answers without having seen one; give one with -i PICTURE.)"
)


def records(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def started(*arguments: str | Path, cwd: Path) -> subprocess.Popen[bytes]:
    """The program, running, with its output to be read piece by piece."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "minigpt4.tui", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
    )


def test_the_answer_alone_is_on_stdout(run_minigpt4, examples: Path) -> None:
    done = run_minigpt4("ask", "-i", examples / "chelsea.png", QUESTION)
    assert done.returncode == 0, done.stderr
    assert any(letter.isalpha() for letter in done.stdout)
    assert done.stdout.endswith("\n")
    assert done.stderr == ""


def test_json_holds_what_a_script_needs_and_standard_input_is_the_same_picture(
    run_minigpt4, examples: Path
) -> None:
    photo = examples / "coffee.jpg"
    named = run_minigpt4("ask", "--json", *SHORT, "-i", photo, QUESTION)
    piped = run_minigpt4("ask", "--json", *SHORT, "-i", "-", QUESTION, stdin=photo.read_bytes())
    [record], [other] = records(named.stdout), records(piped.stdout)
    assert record["answer"] == other["answer"]
    assert (record["images"], other["images"]) == ([str(photo)], ["-"])
    assert record["finish"] in ("stop", "length")
    assert 0 < record["tokens"]["answer"] <= 8
    assert record["tokens"]["computed"] >= record["tokens"]["prompt"] > 10
    assert record["timings"]["first_token_s"] > 0
    assert record["bundle"] == "mini"
    assert record["backend"] in ("torch", "llamacpp")


def test_several_pictures_belong_to_one_question(run_minigpt4, examples: Path) -> None:
    photos = [str(examples / name) for name in ("chelsea.png", "coffee.jpg")]
    one = run_minigpt4("ask", "--json", *SHORT, "-i", photos[0], QUESTION)
    two = run_minigpt4("ask", "--json", *SHORT, "-i", photos[0], "-i", photos[1], QUESTION)
    [alone], [together] = records(one.stdout), records(two.stdout)
    assert together["images"] == photos
    assert together["tokens"]["prompt"] > alone["tokens"]["prompt"] + 4


def test_each_picture_is_answered_in_turn_and_a_bad_one_does_not_stop_the_others(
    run_minigpt4, examples: Path
) -> None:
    good = [str(examples / "chelsea.png"), str(examples / "rocket.jpg")]
    arguments = ("-i", good[0], "-i", "no.jpg", "-i", good[1], QUESTION)
    done = run_minigpt4("ask", "--each", "--json", *SHORT, *arguments)
    assert done.returncode == 1
    assert [record["images"] for record in records(done.stdout)] == [[name] for name in good]
    assert "minigpt4: There is no file 'no.jpg'; check the path." in done.stderr.splitlines()
    plain = run_minigpt4("ask", "--each", "--max-tokens", "2", *arguments)
    starts = [line for line in plain.stdout.splitlines() if line.startswith(str(examples))]
    assert [line.partition(": ")[0] for line in starts] == good


def test_a_question_needs_no_picture_and_a_limit_that_was_hit_is_reported(run_minigpt4) -> None:
    done = run_minigpt4("ask", *SHORT, STORY)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr.splitlines() == [
        NO_PICTURE,
        "(The answer was cut off after 8 tokens; --max-tokens allows more.)",
    ]


def test_a_path_in_the_question_is_a_picture(run_minigpt4, examples: Path) -> None:
    photos = [str(examples / name) for name in ("chelsea.png", "coffee.jpg")]
    given = run_minigpt4("ask", "--json", *SHORT, "-i", photos[0], "-i", photos[1], QUESTION)
    for words in (f"{QUESTION} {photos[0]}, '{photos[1]}'.", f"{photos[0]} {photos[1]} {QUESTION}"):
        typed = run_minigpt4("ask", "--json", *SHORT, words)
        [record], [same] = records(typed.stdout), records(given.stdout)
        assert typed.stderr == given.stderr
        assert (record["answer"], record["images"]) == (same["answer"], photos)
    named = run_minigpt4("ask", "--json", *SHORT, "-i", photos[0], f"What is in {photos[0]} ?")
    assert records(named.stdout)[0]["images"] == photos[:1]
    each = run_minigpt4("ask", "--json", "--each", *SHORT, f"{QUESTION} {photos[0]} {photos[1]}")
    assert [record["images"] for record in records(each.stdout)] == [[photo] for photo in photos]


def test_an_address_is_a_picture_as_an_option_and_in_the_question(run_minigpt4, web, examples: Path) -> None:
    address = web.put("/coffee.jpg", (examples / "coffee.jpg").read_bytes())
    given = run_minigpt4("ask", "--json", *SHORT, "-i", address, QUESTION, env={"no_proxy": "*"})
    typed = run_minigpt4("ask", "--json", *SHORT, f"{QUESTION} {address}", env={"no_proxy": "*"})
    [record], [same] = records(typed.stdout), records(given.stdout)
    assert (record["answer"], record["images"]) == (same["answer"], [address])
    assert web.asked == ["/coffee.jpg"] * 2


def test_what_is_no_picture_in_a_question_is_one_line_and_nothing_is_asked(
    run_minigpt4, web, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    for named in (
        web.put("/page", b"<html>no picture</html>"),
        f"{web.address}/none.png",
        str(tmp_path / "notes.png"),
    ):
        done = run_minigpt4("ask", f"What is {named} ?", env={"no_proxy": "*"})
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert named in done.stderr
        assert "The question was not asked; correct the path or address in it" in done.stderr


def test_a_picture_without_a_question_is_wrong_usage(run_minigpt4, examples: Path) -> None:
    done = run_minigpt4("ask", examples / "coffee.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("minigpt4: The question is only a picture; add what you want to know")


def test_a_missing_picture_is_told_on_standard_error_and_json_stays_as_it_is(run_minigpt4) -> None:
    done = run_minigpt4("ask", "--json", *SHORT, "What is in /no/such.png ?")
    [record] = records(done.stdout)
    assert (record["images"], record["notices"]) == ([], [])
    assert done.stderr.splitlines()[0] == NO_PICTURE


def test_a_named_prompt_limits_the_answer_unless_the_command_line_does(run_minigpt4, own_home: Path) -> None:
    folder = own_home / "config" / "prompts"
    folder.mkdir(parents=True)
    (folder / "tale.toml").write_text(f"about = 'x'\ntext = '{STORY}'\nmax_tokens = 3\n")
    for arguments, tokens in (([], 3), (["--max-tokens", "5"], 5)):
        [record] = records(run_minigpt4("ask", "--json", "--greedy", *arguments, "/tale").stdout)
        assert record["tokens"]["answer"] == tokens


def test_a_seed_repeats_an_answer(run_minigpt4) -> None:
    arguments = ("--json", "--max-tokens", "8", "--temperature", "1", "--seed", "7", STORY)
    answers = {records(run_minigpt4("ask", *arguments).stdout)[0]["answer"] for _ in range(2)}
    assert len(answers) == 1


def test_an_animation_is_answered_and_reported(run_minigpt4, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    done = run_minigpt4("ask", *SHORT, "-i", "moving.gif", QUESTION)
    assert done.returncode == 0
    assert "moving.gif: The picture is animated (2 frames); its first frame is used." in done.stderr


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10)])
def test_odd_shapes_are_answered(run_minigpt4, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "ODD.PNG")
    done = run_minigpt4("ask", "--max-tokens", "2", "-i", "ODD.PNG", QUESTION)
    assert done.returncode == 0, done.stderr


def test_a_question_longer_than_the_context_is_one_line(run_minigpt4) -> None:
    done = run_minigpt4("ask", "word " * 4000)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("minigpt4: The last message takes ")
    assert done.stderr.count("\n") == 1


def test_a_projection_that_is_none_is_one_line(run_minigpt4, tmp_path: Path, examples: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"not tensors")
    Image.new("RGB", (7, 7), "teal").save(tmp_path / "new.png")  # one that no cache knows
    for name in ("mine.safetensors", "none.safetensors"):
        done = run_minigpt4("ask", "--projection", name, "-i", "new.png", QUESTION)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        assert name in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    program = started("ask", STORY, cwd=tmp_path)
    assert program.stdout is not None
    assert program.stderr is not None
    assert os.read(program.stdout.fileno(), 1)
    program.stdout.close()
    assert program.wait(timeout=120) == 0
    assert program.stderr.read().decode() == f"{NO_PICTURE}\n"
    program.stderr.close()


def test_an_interrupt_keeps_what_was_printed(tmp_path: Path) -> None:
    program = started("ask", STORY, cwd=tmp_path)
    assert program.stdout is not None
    output = os.read(program.stdout.fileno(), 100)
    program.send_signal(signal.SIGINT)
    rest, errors = program.communicate(timeout=120)
    assert program.returncode == 130
    assert (output + rest).endswith(b"\n")
    assert errors.decode() == f"{NO_PICTURE}\n"


def test_reasoning_is_no_part_of_the_answer(
    call_minigpt4: Call, scripted_engine: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Thinking(scripted_engine):  # type: ignore[misc]
        bundle, language = SimpleNamespace(name="mini"), SimpleNamespace(backend="llamacpp")

        def __enter__(self) -> Thinking:
            return self

        def __exit__(self, *_: object) -> None: ...

        def reply(self, *arguments: Any, beams: int, **named: Any) -> Any:
            reply = super().reply(*arguments, **named)
            reply.computed_tokens = 7
            return reply

    pieces = [Piece("A dog?", is_reasoning=True), "A ", "cat."]
    monkeypatch.setattr(options, "load_engine", lambda *_, **__: Thinking(pieces))
    done = call_minigpt4("ask", "What?")
    assert (done.stdout, "dog" in done.stderr) == ("A cat.\n", False)
    record = json.loads(call_minigpt4("ask", "What?", "--json").stdout)
    assert (record["answer"], record["reasoning"]) == ("A cat.", "A dog?")
