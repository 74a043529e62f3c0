"""Reading a run's folder while it is written: events, state and curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import UsageError
from minigpt4.train.events import Answer, AnswersSampled, Note, StepDone, Validated
from minigpt4.train.run.folder import RunFolder
from minigpt4.train.run.log import Curve, RunLog, RunTail, sample_picture

RECIPE = 'stage = 1\nbundle = "mini"\nsteps = 100\nbatch_size = 8\n'


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.recipe_file.write_text(RECIPE)
    return folder


def done(step: int, loss: float = 2.0, speed: float = 4.0) -> StepDone:
    return StepDone(step, loss, 0.001, 0.5, speed, 100)


def follow(folder: RunFolder) -> Callable[[], RunLog]:
    """Poll the folder; returns the same log each time."""
    tail, log = RunTail(folder.path), RunLog(folder.path)

    def poll() -> RunLog:
        log.update(tail.poll())
        return log

    return poll


def test_logged_events_are_read_back_equal(run: RunFolder) -> None:
    events = (
        Validated(0, 4.0),
        StepDone(1, 3.5, 0.001, 0.5, 12.0, 640, data_wait=0.25, mfu=0.5, memory=1024, left_out=1),
        AnswersSampled(1, (Answer("a/1", "What is it?", "A dog."),)),
        Note("From step 1 on with changes: seed 1 -> 2."),
    )
    for event in events:
        run.append(asdict(event))
    assert RunTail(run.path).poll().events == events


def test_a_skipped_photo_is_counted_and_in_no_curve(run: RunFolder) -> None:
    run.append({"step": 1, "key": "x.jpg", "source": "mine", "reason": "not a picture"})
    log = follow(run)()
    assert log.skipped == 1
    assert len(log.loss) == 0


def test_each_poll_reads_only_new_lines(run: RunFolder) -> None:
    tail = RunTail(run.path)
    run.append(asdict(done(1)))
    assert [event.step for event in tail.poll().events if isinstance(event, StepDone)] == [1]
    assert tail.poll().events == ()
    run.append(asdict(done(2)))
    second = tail.poll()
    assert [event.step for event in second.events if isinstance(event, StepDone)] == [2]
    assert not second.restarted


def test_an_incomplete_line_is_read_once_it_is_complete(run: RunFolder) -> None:
    poll = follow(run)
    line = json.dumps(asdict(done(1, loss=3.25))) + "\n"
    with run.log_file.open("w") as file:
        file.write(line[:20])
        file.flush()
        assert poll().step == 0
        file.write(line[20:])
    assert (poll().step, poll().loss.upto(1)) == (1, (1, 3.25))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1, 2]",
        "null",
        '{"step": 99999999999999999999999, "loss": 1, "lr": 1, "grad_norm": 1, "samples_per_s": 1, '
        '"label_tokens": 1}',
        '{"step": "x", "loss": 1}',
        '{"step": 3}',
        '{"step": 3, "answers": [1]}',
        '{"step": null, "val_loss": null}',
        '{"step": 1e999, "val_loss": 1}',
        "\udcff",
    ],
)
def test_a_damaged_line_is_skipped(run: RunFolder, line: str) -> None:
    good = json.dumps(asdict(done(2)))
    run.log_file.write_bytes(f"{line}\n{good}\n".encode("utf-8", "surrogateescape"))
    assert RunTail(run.path).poll().events == (done(2),)


def test_a_resumed_run_removes_events_after_its_checkpoint(run: RunFolder) -> None:
    poll = follow(run)
    for step in range(1, 7):
        run.append(asdict(done(step, loss=9.0)))
    run.append(asdict(AnswersSampled(6, ())))
    assert poll().step == 6
    run.truncate_log(4)
    run.append(asdict(done(5, loss=1.0)))
    log = poll()
    assert (log.step, log.loss.upto(9), log.sampled) == (5, (5, 1.0), [])
    assert log.loss.points(0, 9) == [(1, 9.0), (2, 9.0), (3, 9.0), (4, 9.0), (5, 1.0)]


def test_a_run_is_running_while_its_folder_is_locked(run: RunFolder) -> None:
    poll = follow(run)
    assert poll().state == "stopped"
    with run.locked():
        assert poll().state == "preparing"
        run.append(asdict(done(1)))
        assert poll().state == "running"
    assert poll().state == "stopped"
    run.result.touch()
    assert poll().state == "finished"


def test_watching_a_run_does_not_block_training(run: RunFolder) -> None:
    poll = follow(run)
    with run.locked():
        poll()
    for _ in range(3):
        poll()
        with run.locked():
            pass


def test_the_time_left_is_estimated_from_the_recent_speed(run: RunFolder) -> None:
    poll = follow(run)
    with run.locked():
        for step in range(1, 61):
            run.append(asdict(done(step, speed=1.0 if step <= 10 else 4.0)))
        assert poll().seconds_left == pytest.approx(40 * 8 / 4.0)
    assert poll().seconds_left is None


def test_a_run_with_a_recipe_of_another_version_can_be_watched(run: RunFolder) -> None:
    run.recipe_file.write_text('steps = 7\nphotos = "many"\nbatch_size = "x"\n')
    summary = RunTail(run.path).poll().summary
    assert (summary.steps, summary.batch_size, summary.stage) == (7, 0, 0)
    run.recipe_file.write_text("steps = \n")
    assert RunTail(run.path).poll().summary.steps == 0


def test_a_deleted_folder_is_a_stopped_run(run: RunFolder) -> None:
    poll = follow(run)
    run.append(asdict(done(1)))
    poll()
    run.log_file.unlink()
    run.recipe_file.unlink()
    run.path.rmdir()
    assert (poll().state, poll().step) == ("stopped", 1)


def test_a_folder_without_a_run_is_an_error_naming_runs_below(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"There is no run in .*empty; give the folder that --output named"):
        RunTail(tmp_path / "empty")
    with pytest.raises(UsageError, match="one of those below: run"):
        RunTail(tmp_path)
    with pytest.raises(UsageError, match=r"There is no folder .*nowhere"):
        RunTail(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is a file"):
        RunTail(run.recipe_file)


def test_a_run_that_is_being_prepared_can_be_watched_before_it_has_a_recipe(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new")
    with folder.locked():
        assert follow(folder)().state == "preparing"


def test_answers_at_a_step_are_the_newest_up_to_it(run: RunFolder) -> None:
    poll = follow(run)
    for step in (10, 20):
        run.append(asdict(AnswersSampled(step, (Answer("k", "q", f"of {step}"),))))
    log = poll()
    assert log.answers_at(9) is None
    assert [found.step for moment in (10, 19, 20, 99) if (found := log.answers_at(moment))] == [
        10,
        10,
        20,
        20,
    ]


def test_a_nan_loss_is_reported_and_in_no_curve(run: RunFolder) -> None:
    run.append(asdict(done(1)))
    run.append(asdict(done(2, loss=math.nan)))
    log = follow(run)()
    assert log.last is not None and math.isnan(log.last.loss)
    assert log.loss.points(0, 9) == [(1, 2.0)]


steps_and_values = st.lists(
    st.tuples(st.integers(0, 40), st.floats(-100, 100) | st.just(math.nan) | st.just(math.inf)), max_size=60
)


@given(steps_and_values, st.integers(-2, 42), st.integers(-2, 42))
def test_a_curve_holds_the_last_value_of_each_step(
    added: list[tuple[int, float]], first: int, last: int
) -> None:
    curve, kept = Curve(), dict[int, float]()
    for step, value in added:
        curve.add(step, value)
        kept = {known: one for known, one in kept.items() if known < step}
        if math.isfinite(value):
            kept[step] = value
    points = [(step, value) for step, value in sorted(kept.items()) if first <= step <= last]
    values = [value for _, value in points]
    assert curve.points(first, last) == points
    assert curve.extent(first, last) == ((min(values), max(values)) if values else None)
    mean = curve.mean(first, last)
    assert mean == pytest.approx(sum(values) / len(values), abs=1e-9) if values else mean is None
    assert curve.upto(last) == max(((s, v) for s, v in kept.items() if s <= last), default=None)
    assert (len(curve), curve.last) == (len(kept), max(kept, default=0))


@given(st.text(min_size=1))
def test_every_key_has_its_own_picture_file(key: str) -> None:
    path = sample_picture(Path("run"), key)
    assert path.parent == Path("run/samples")
    assert len(path.name.encode()) <= 255
    assert path != sample_picture(Path("run"), f"{key}.")


def test_keys_with_path_separators_stay_in_the_run_s_folder() -> None:
    for key in ("../../etc/passwd", "/abs", "..", "a/b\\c", "x\0y", "n" * 5000):
        assert sample_picture(Path("run"), key).parent == Path("run/samples")
