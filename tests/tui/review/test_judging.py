"""A person judges on the screen: keys, what is kept and shown, and how it looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.evaluate.person import Case, Sitting
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.tui.review.judging import JudgeApp, judge_in_person
from minigpt4.tui.widgets.picture import PictureArea

NewRun = Callable[..., EvalRun]
Review = Callable[..., AbstractAsyncContextManager[Any]]
Look = Callable[..., Awaitable[None]]


@pytest.fixture
def judging(review: Review, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Judge some runs as Ann."""

    def read(case: Case) -> bytes:
        return (tmp_path / "pictures" / case.record.photo).read_bytes()

    def begin(*runs: EvalRun, read: Callable[[Case], bytes] = read, **named: Any) -> Any:
        return review(lambda loaded: JudgeApp(loaded, Sitting(runs, "ann"), read), **named)

    return begin


def words_of(run: EvalRun) -> list[str]:
    return [one.words for one in run.verdicts()]


async def test_one_key_a_verdict_which_is_in_the_run_before_the_next_is_shown(
    judged_run: NewRun, judging: Review
) -> None:
    run = judged_run("a")
    async with judging(run) as stage:
        await stage.until_shown("0 of 5 judged by ann")
        await stage.until_shown(f"Run a sees {stage.app.sitting.current.task.answer.split()[3]} bright")
        for number, (key, words) in enumerate(
            [("y", "yes"), ("n", "no"), ("u", "unsure"), ("y", "yes"), ("y", "yes")], start=1
        ):
            await stage.pilot.press(key)
            assert words_of(run)[number - 1 :] == [words]
            await stage.until_shown(f"{number} of 5 judged by ann the one before: {words}")
        await stage.until_shown("Everything is judged.")
        await stage.pilot.press("y", "n")
        assert len(words_of(run)) == 5


async def test_backspace_takes_back_also_the_last_verdict_of_all(judged_run: NewRun, judging: Review) -> None:
    run = judged_run("a")
    async with judging(run) as stage:
        await stage.pilot.press("backspace", *"yyyyy")
        await stage.until_shown("Everything is judged.")
        await stage.pilot.press("backspace")
        await stage.until_shown("4 of 5 judged")
        assert len(words_of(run)) == 4
        await stage.pilot.press("n")
        assert words_of(run) == ["yes"] * 4 + ["no"]


async def test_nothing_on_the_screen_tells_the_run_or_a_known_negative(
    judged_run: NewRun, judging: Review
) -> None:
    one, two = judged_run("secret one"), judged_run("secret two")
    async with judging(one, two) as stage:
        stage.app._picture = lambda case: (_ for _ in ()).throw(DataError("It is gone."))
        sitting = stage.app.sitting
        sitting.cases = [
            Case(case.run, case.record, replace(case.task, answer="It is a dog.")) for case in sitting.cases
        ]
        sitting.current = sitting.cases[0]
        shown = set()
        for _ in range(10):
            stage.app.draw()
            await stage.pilot.pause()
            text = stage.text()
            shown.add(text.replace(text.splitlines()[0], "").replace("Backspace undo", "").replace(" ", ""))
            await stage.pilot.press("y")
        assert "secret" not in "".join(shown) and "negative" not in "".join(shown)


async def test_a_key_that_is_held_down_judges_nothing_unread(
    judged_run: NewRun, judging: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = judged_run("a")
    async with judging(run) as stage:
        monkeypatch.setattr("minigpt4.tui.review.app.UNREAD_S", 3600.0)
        await stage.pilot.press("y", "y", "y")
        assert words_of(run) == []
        monkeypatch.setattr("minigpt4.tui.review.app.UNREAD_S", 0.0)
        await stage.pilot.press("y")
        assert words_of(run) == ["yes"]


async def test_a_picture_that_cannot_be_read_is_said_and_its_answer_can_be_judged(
    judged_run: NewRun, judging: Review
) -> None:
    def read(case: Case) -> bytes:
        if case.record.photo == "00.png":
            raise DataError("The picture is not in photos[/].")
        return b"no picture"

    run = judged_run("a", answers=2)
    async with judging(run, read=read, size=(120, 40)) as stage:
        seen = ""
        for _ in range(2):
            await stage.until(lambda: stage.app.query_one("#missing").display)
            await stage.pilot.pause()
            seen += " ".join(stage.text().split())
            stage.app.query_one("#missing", Static).display = False
            await stage.pilot.press("n")
        assert "photos[/]" in seen and "bug" not in seen
        assert words_of(run) == ["no", "no"]


async def test_text_with_markup_and_control_codes_is_shown_as_it_is(
    judged_run: NewRun, judging: Review
) -> None:
    run = judged_run("a", answers=1)
    with run.answers_file() as file:
        file.add(replace(run.records()[0], answer="[/] a \x1b[31mred[b] dog"))
    async with judging(run) as stage:
        await stage.until_shown("[/] a ␛[31mred[b] dog")


async def test_a_long_answer_scrolls_and_the_next_one_begins_at_its_top(
    judged_run: NewRun, judging: Review
) -> None:
    run = judged_run("a", answers=2)
    with run.answers_file() as file:
        for record in run.records():
            file.add(replace(record, answer="\n".join(f"line {number}" for number in range(99))))
    async with judging(run) as stage:
        await stage.until_shown("line 0")
        await stage.pilot.press("down", "pagedown", "space")
        await stage.until(lambda: "line 40" in stage.text() and "line 0\n" not in stage.text())
        await stage.pilot.press("y")
        await stage.until(lambda: "line 1 " in stage.text())


async def test_z_gives_the_picture_the_whole_screen(judged_run: NewRun, judging: Review) -> None:
    async with judging(judged_run("a"), size=(80, 24)) as stage:
        area = stage.app.query_one(PictureArea)
        await stage.until(lambda: area._drawing is not None)
        before = area.size.width
        await stage.pilot.press("z")
        await stage.until(lambda: area.size.width > before)
        await stage.pilot.press("z")
        await stage.until(lambda: area.size.width == before)


async def test_the_keys_can_be_clicked(judged_run: NewRun, judging: Review) -> None:
    run = judged_run("a")
    async with judging(run) as stage:
        await stage.until_shown("y yes")
        await stage.pilot.click("#keys", offset=(3, 0))
        await stage.until(lambda: words_of(run) == ["yes"])


@pytest.mark.parametrize("theme", ["terminal", "contrast"])
@pytest.mark.parametrize("size", [(40, 10), (1, 1)])
async def test_every_theme_and_size_can_be_judged_in(
    judged_run: NewRun, judging: Review, theme: str, size: tuple[int, int]
) -> None:
    run = judged_run("a")
    async with judging(run, theme=theme, size=size) as stage:
        await stage.pilot.press("y", "z", "n")
        assert stage.app.theme == theme and words_of(run) == ["yes", "no"]


async def test_without_pictures_it_is_said_why(judged_run: NewRun, judging: Review) -> None:
    async with judging(judged_run("a"), images="off") as stage:
        await stage.until_shown("setting images is off.")


async def test_a_disk_that_is_full_is_said_and_loses_no_answer(judged_run: NewRun, judging: Review) -> None:
    run = judged_run("a")
    async with judging(run) as stage:
        (run.path / "verdicts.jsonl").mkdir()
        said: list[str] = []
        stage.app.say = lambda sentence, severity: said.append(sentence)
        await stage.pilot.press("y")
        assert len(said) == 1 and "verdicts.jsonl" in said[0]
        await stage.until_shown("0 of 5 judged")


def test_without_a_terminal_a_model_is_named_as_the_way_out(judged_run: NewRun) -> None:
    with pytest.raises(UsageError, match="--judge names a model"):
        judge_in_person(Sitting([judged_run("a")], "ann"), lambda _: b"")


async def test_how_it_looks(judged_run: NewRun, judging: Review, look: Look) -> None:
    async with judging(judged_run("a", answers=12)) as stage:
        await stage.pilot.press("y", "n")
        await look(stage, "judge")


async def test_how_it_looks_when_everything_is_judged(
    judged_run: NewRun, judging: Review, look: Look
) -> None:
    async with judging(judged_run("a")) as stage:
        await stage.pilot.press(*"ynuyy")
        await look(stage, "judged")
