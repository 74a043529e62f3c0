"""The watch screen: contents, keys and mouse."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sysconfig
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pexpect
import pytest
from rich.color import Color

from minigpt4.core.errors import UsageError
from minigpt4.tui.watch.answers import Answers, QuestionView
from minigpt4.tui.watch.app import watch_runs
from minigpt4.tui.watch.chart import Chart
from minigpt4.tui.watch.views import NAMES
from minigpt4.tui.widgets.picture import PictureArea

NewRun = Callable[..., Any]
Watch = Callable[..., AbstractAsyncContextManager[Any]]
ODD = "[/] a \x1b[31mred[b] dog"


async def test_a_finished_run_is_shown_in_the_first_frame(new_run: NewRun, watch: Watch) -> None:
    run = new_run()
    run.steps(1, 100, lambda step: 3 - step / 100)
    run.validated(100, 2.25)
    run.folder.result.touch()
    async with watch(run, size=(100, 30)) as stage:
        line = stage.line("stage1")
        assert "finished" in line and "step 100/100" in line
        assert "loss 2.245" in line and "val 2.250" in line
        assert "loss per token" in stage.text()
        assert any("⠀" < letter <= "⣿" for letter in stage.text())


async def test_new_events_of_a_run_are_shown_at_the_next_read(new_run: NewRun, watch: Watch) -> None:
    run = new_run()
    with run.folder.locked():
        async with watch(run) as stage:
            assert "preparing" in stage.line("stage1")
            run.steps(1, 10)
            await stage.read()
            assert "running, 3 min left" in stage.line("stage1")
            run.steps(11, 20)
            await stage.read()
            assert "step 20/100" in stage.line("stage1")


async def test_a_run_is_followed_without_a_key_being_pressed(
    new_run: NewRun, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt4.tui.watch.app.REFRESH_S", 0.01)
    run = new_run()
    async with watch(run) as stage:
        run.steps(1, 7)
        await stage.until(lambda: "step 7/100" in stage.text())


async def test_a_folder_that_is_deleted_stops_neither_screen_nor_figures(
    new_run: NewRun, watch: Watch
) -> None:
    run = new_run()
    run.steps(1, 5)
    async with watch(run) as stage:
        shutil.rmtree(run.folder.path)
        await stage.read()
        assert "stopped" in stage.line("stage1") and "step 5" in stage.line("stage1")


async def test_number_keys_tab_and_clicks_change_the_view(new_run: NewRun, watch: Watch) -> None:
    run = new_run()
    run.steps(1, 20)
    async with watch(run) as stage:
        for number, (view, name) in enumerate(NAMES.items(), start=1):
            await stage.pilot.press(str(number))
            assert stage.app.view == view
            assert f"{number} {name}" in stage.text()
        await stage.pilot.press("tab")
        assert stage.app.view == "loss"
        await stage.pilot.press("shift+tab")
        assert stage.app.view == "answers"
        await stage.pilot.click("ViewBar", offset=(stage.line("gradient").index("gradient"), 0))
        assert stage.app.view == "gradient"
        assert "gradient norm" in stage.text()


async def test_the_axis_of_steps_becomes_logarithmic_and_even_again(new_run: NewRun, watch: Watch) -> None:
    run = new_run()
    run.steps(1, 1000)
    async with watch(run) as stage:
        assert stage.line("400").split()[:3] == ["0", "200", "400"]
        await stage.pilot.press("x")
        assert stage.line("1k").split() == ["1", "10", "100", "1k"]
        await stage.pilot.press("x")
        assert "400" in stage.text()


async def test_arrows_move_a_cursor_that_tells_the_values_at_its_step(new_run: NewRun, watch: Watch) -> None:
    run = new_run()
    run.steps(1, 100, lambda step: 2.0 if step <= 50 else 1.0)
    run.validated(10, 2.5)
    async with watch(run) as stage:
        stage.app.action_step(-50)
        await stage.pilot.press("shift+left")
        step = round(stage.app.cursor)
        assert 10 < step < 50
        assert f"step {step}   2.000 ◆ 2.500" in stage.text()
        await stage.pilot.press("right")
        assert stage.app.cursor > step
        stage.app.action_step(80)
        await stage.pilot.press("shift+right")
        assert stage.app.cursor is None
        await stage.pilot.press("left", "escape")
        assert stage.app.cursor is None


async def test_the_mouse_tells_values_where_it_points_and_a_click_keeps_the_step(
    new_run: NewRun, watch: Watch
) -> None:
    run = new_run()
    run.steps(1, 100)
    async with watch(run) as stage:
        await stage.pilot.hover(Chart, offset=(40, 5))
        await stage.until(lambda: re.search(r"step (4|5)\d   2\.000", stage.text()))
        assert stage.app.cursor is None
        await stage.pilot.click(Chart, offset=(20, 5))
        await stage.until(lambda: stage.app.cursor is not None)
        assert 10 < stage.app.cursor < 40


async def test_runs_lie_over_each_other_and_one_is_chosen(new_run: NewRun, watch: Watch) -> None:
    slow, fast = new_run("slow"), new_run("fast")
    slow.steps(1, 100, lambda step: 3.0)
    fast.steps(1, 50, lambda step: 2.0)
    async with watch(slow, fast) as stage:
        assert stage.line("slow").strip().startswith("a slow")
        assert stage.line("fast").strip().startswith("b fast")
        await stage.pilot.press("down", "down")
        assert stage.app.chosen == 1
        stage.app.action_step(-40)
        await stage.pilot.pause()
        assert "a 3.000   b 2.000" in stage.text()
        await stage.pilot.press("up")
        assert stage.app.chosen == 0
        await stage.pilot.click("RunList", offset=(4, 1))
        assert stage.app.chosen == 1


async def test_many_runs_leave_space_for_the_chart_and_the_chosen_one_is_visible(
    new_run: NewRun, watch: Watch
) -> None:
    runs = [new_run(f"run{number:02}") for number in range(30)]
    for run in runs:
        run.steps(1, 5)
    async with watch(*runs) as stage:
        assert stage.app.query_one(Chart).size.height >= 8
        assert "run29" not in stage.text()
        for _ in runs:
            stage.app.action_down(1)
        await stage.until(lambda: "run29" in stage.text())
        assert stage.app.chosen == 29


async def test_answers_are_shown_with_their_pictures_and_their_step(new_run: NewRun, watch: Watch) -> None:
    run = new_run()
    run.steps(1, 40)
    for step in (10, 20, 30):
        run.sampled(step, dog=f"A dog at {step}.", cat=f"A cat at {step}.")
    run.picture("dog")
    async with watch(run, images="halfblock") as stage:
        await stage.pilot.press("5")
        await stage.until(lambda: "A dog at 30." in stage.text() and "▀" in stage.text())
        assert "answers after step 30 (3 of 3)" in stage.text()
        assert len(stage.app.query(PictureArea)) == 1
        await stage.pilot.press("left")
        assert "answers after step 20 (2 of 3)" in stage.text() and "A cat at 20." in stage.text()
        await stage.pilot.press("left", "left", "left")
        assert "answers after step 10 (1 of 3)" in stage.text()
        await stage.pilot.press("end")
        assert "A dog at 30." in stage.text()


async def test_new_answers_take_the_place_of_the_old_ones(new_run: NewRun, watch: Watch) -> None:
    run = new_run()
    run.sampled(10, dog="A dog.")
    async with watch(run) as stage:
        await stage.pilot.press("5")
        await stage.until(lambda: "A dog." in stage.text())
        view = stage.app.query_one(QuestionView)
        run.sampled(20, dog="A brown dog.")
        await stage.read()
        assert "A brown dog." in stage.text() and "A dog." not in stage.text()
        assert stage.app.query_one(QuestionView) is view


async def test_answers_of_several_runs_are_under_the_same_picture(new_run: NewRun, watch: Watch) -> None:
    runs = [new_run("one"), new_run("two")]
    for run, answer in zip(runs, ("A dog.", "A cat."), strict=True):
        run.sampled(10, photo=answer)
    async with watch(*runs) as stage:
        await stage.pilot.press("5")
        await stage.until(lambda: "b A cat." in stage.text())
        assert "a A dog." in stage.text()
        assert len(stage.app.query(QuestionView)) == 1


async def test_wide_screens_show_answers_beside_the_chart_if_there_are_any(
    new_run: NewRun, watch: Watch
) -> None:
    run = new_run()
    run.steps(1, 30)
    async with watch(run, size=(120, 40)) as stage:
        assert not stage.app.query_one(Answers).display
        assert stage.app.query_one(Chart).size.width > 110
        run.sampled(10, dog="A dog.")
        await stage.read()
        await stage.until(lambda: "A dog." in stage.text())
        assert stage.app.query_one(Chart).size.width < 90
        assert "loss per token" in stage.text()


async def test_the_cursor_on_the_curves_chooses_the_answers_beside_them(
    new_run: NewRun, watch: Watch
) -> None:
    run = new_run()
    run.steps(1, 100)
    run.sampled(20, dog="Early.")
    run.sampled(90, dog="Late.")
    async with watch(run, size=(120, 40)) as stage:
        await stage.until(lambda: "Late." in stage.text())
        stage.app.action_step(-30)
        await stage.pilot.pause()
        assert "Early." in stage.text()


async def test_a_run_without_answers_says_how_to_get_some(new_run: NewRun, watch: Watch) -> None:
    run = new_run()
    async with watch(run, size=(100, 24)) as stage:
        await stage.pilot.press("5", "left", "down", "pagedown")
        assert "No answers yet; the recipe's sample_every" in stage.text()


async def test_a_picture_that_cannot_be_opened_leaves_the_answer_readable(
    new_run: NewRun, watch: Watch
) -> None:
    run = new_run()
    run.sampled(10, dog="A dog.")
    run.picture("dog")
    (path,) = (run.folder.path / "samples").iterdir()
    path.write_bytes(b"no picture")
    async with watch(run) as stage:
        await stage.pilot.press("5")
        await stage.until(lambda: not stage.app.query_one(PictureArea).display)
        assert "A dog." in stage.text()


async def test_texts_of_models_and_folders_are_shown_without_markup(new_run: NewRun, watch: Watch) -> None:
    run = new_run("[b]odd")
    run.steps(1, 3)
    run.folder.append({"sentence": ODD})
    run.sampled(3, **{ODD: ODD})
    async with watch(run, size=(120, 40)) as stage:
        await stage.pilot.press("5")
        await stage.until(lambda: "[/] a ␛[31mred[b] dog" in stage.text())
        assert "[b]odd" in stage.text()
        assert "\x1b[31m" not in stage.text()


@pytest.mark.parametrize("theme", ["paper", "terminal"])
@pytest.mark.parametrize("size", [(120, 40), (40, 10), (1, 1)])
async def test_every_theme_and_size_is_drawn(
    new_run: NewRun, watch: Watch, theme: str, size: tuple[int, int]
) -> None:
    run = new_run()
    run.steps(1, 50)
    run.sampled(10, dog="A dog.")
    async with watch(run, size=size, theme=theme) as stage:
        stage.app.action_log_steps()
        stage.app.action_step(-1)
        for view in NAMES:
            stage.app.action_view(view)
            await stage.pilot.pause()
        assert stage.app.theme == theme


@pytest.mark.parametrize("theme", ["harbour", "paper", "terminal"])
async def test_without_colours_single_steps_stay_fainter_than_their_mean(
    new_run: NewRun, watch: Watch, monkeypatch: pytest.MonkeyPatch, theme: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    run = new_run()
    run.steps(1, 1000, lambda step: 2 + step % 10)
    async with watch(run, theme=theme) as stage:
        area = stage.app.query_one(Chart).region
        strips = stage.app.screen._compositor.render_strips()[area.y : area.bottom]
        looks = {segment.style for strip in strips for segment in strip if "⠀" < segment.text[:1] <= "⣿"}
        contrasts = sorted(abs(grey(look.color) - grey(look.bgcolor)) for look in looks)
        assert len(contrasts) == 2
        assert contrasts[1] > 1.5 * contrasts[0]


def grey(color: Color) -> float:
    """A colour's brightness; it must have none of its own."""
    red, green, blue = color.get_truecolor()
    assert max(red, green, blue) - min(red, green, blue) <= 1
    return red


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_it_is_left_with_a_key(new_run: NewRun, watch: Watch, key: str) -> None:
    async with watch(new_run()) as stage:
        await stage.pilot.press(key)
        await stage.until(lambda: not stage.app.is_running)


def test_in_a_pipe_each_run_is_one_line(new_run: NewRun, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = new_run("one"), new_run("two")
    first.steps(1, 5)
    watch_runs([first.folder.path, second.folder.path, first.folder.path])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].split(" ")[0] for line in lines] == ["one:", "two:"]
    assert "step 5/100, loss 2.000" in lines[0]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no run in"):
        watch_runs([tmp_path])


@pytest.mark.parametrize(("way", "code"), [("q", 0), (signal.SIGTERM, 143)])
def test_the_program_follows_a_run_in_a_terminal_until_it_is_left(
    new_run: NewRun, way: str | signal.Signals, code: int
) -> None:
    run = new_run()
    run.steps(1, 5)
    program = Path(sysconfig.get_path("scripts")) / "minigpt4"
    child = pexpect.spawn(
        str(program),
        ["train", "--watch", str(run.folder.path)],
        env={**os.environ, "TERM": "xterm-256color"},
        dimensions=(24, 80),
        timeout=60,
    )
    child.expect("step 5/100")
    if isinstance(way, str):
        child.send(way)
    else:
        child.kill(way)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code
