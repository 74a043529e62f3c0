"""`minigpt4 curate`: each step keeps its input and resumes, and the summary says how many fell where."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.types import ImageEmbedding, Sampling
from minigpt4.train.curate.describe import PROMPT
from minigpt4.train.curate.repair import INSTRUCTION
from minigpt4.train.curate.reviews import Reviews
from minigpt4.train.data.open import open_photos
from minigpt4.tui.app import standalone
from minigpt4.tui.cli import main, options
from minigpt4.tui.review import curating

EXAMPLES = Path(__file__).parents[3] / "examples"
CAT = "A black cat sleeps on a red sofa beside the window of a small living room."
DOG = "Two dogs run through the tall grass of a meadow while a child throws a ball for them."
SIT = "They all look happy."
SORRY = f"I'm sorry I made a mistake. {CAT}"
ANSWERS = {
    "cat.jpg": CAT,
    "dog.jpg": DOG,
    "sorry.jpg": SORRY,
    "bird.jpg": "A bird.",
}


class FakeReply:
    finish: Any = "stop"
    first_token_s = 0.1

    def __init__(self, text: str) -> None:
        self.answer_tokens = len(text.split())
        self._text = text

    def read(self) -> str:
        return self._text


class FakeEngine:
    """Answers by the picture's name, and repairs by cutting the apology; `asked` keeps all conversations."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Sequence[Message], Sampling | None]] = []
        self.stops_at = ""
        self.bundle = type("Bundle", (), {"name": "mini"})

    def look(self, source: Picture) -> ImageEmbedding:
        return ImageEmbedding(np.zeros((1, 4), np.float32), key=source.name)

    def reply(self, conversation: Sequence[Message], sampling: Sampling | None = None) -> FakeReply:
        first, last = conversation[0], conversation[-1]
        assert isinstance(first, User)
        assert isinstance(last, User)
        if not first.images:
            self.asked.append(("repair", conversation, sampling))
            return FakeReply(first.text.rpartition("\n\n")[2].replace("I'm sorry I made a mistake. ", ""))
        key = first.images[0].key
        self.asked.append((key, conversation, sampling))
        if key == self.stops_at:
            raise KeyboardInterrupt
        return FakeReply(SIT if len(conversation) > 1 else ANSWERS[key])

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr(options, "load_engine", lambda _options: engine)
    return engine


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(1)
    for name in ANSWERS:
        Image.fromarray(noise.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / name)
    return folder


Curate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def curate(
    capsys: pytest.CaptureFixture[str], engine: FakeEngine, photos: Path, tmp_path: Path, mini_home: Path
) -> Iterator[Curate]:
    def curate(*arguments: str | Path, data: Path = photos) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["curate", str(data), "-o", str(tmp_path / "run"), *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    yield curate


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_paper_s_question_is_asked_and_short_answers_go_on(
    curate: Curate, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(ANSWERS, "dog.jpg", " ".join([DOG] * 5))
    assert curate("--seed", "7")[0] == 0
    asked = [
        (key, [one.text for one in said], len(said)) for key, said, _ in engine.asked if key != "sorry.jpg"
    ]
    assert asked[0] == ("bird.jpg", [PROMPT], 1)
    assert asked[1] == ("bird.jpg", [PROMPT, "A bird.", "Continue"], 3)
    assert [size for key, _, size in asked if key == "dog.jpg"] == [1], "over 80 tokens"
    assert isinstance(engine.asked[1][1][1], Assistant)
    assert all(sampling is not None and sampling.seed == 7 for _, _, sampling in engine.asked)
    bird = lines(tmp_path / "run" / "described.jsonl")[0]
    assert (bird["text"], bird["turns"], bird["tokens"]) == (f"A bird. {SIT}", ["A bird.", SIT], [2, 4])


def test_the_summary_counts_what_fell_where_and_shows_it(curate: Curate) -> None:
    code, out, _ = curate("--no-review", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["pictures"], found["described"], found["continued"], found["kept"]) == (4, 4, 4, 2)
    filters = {name: one["removed"] for name, one in found["filters"].items() if one["removed"]}
    assert filters == {"apology": 1, "fragment": 1}
    example = found["filters"]["apology"]["examples"][0]
    assert (example["photo"], example["why"]) == ("sorry.jpg", "I'm sorry")
    assert "I made a mistake" in example["text"]
    shown = curate("--no-review")[1]
    assert "sorry.jpg: I'm sorry: I'm sorry I made a mistake." in shown


def test_a_repair_has_the_paper_s_instruction_and_keeps_the_text_before(
    curate: Curate, engine: FakeEngine, tmp_path: Path
) -> None:
    code, out, _ = curate("--no-review", "--repair-with", "mini", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["repair"] == {"by": "mini", "changed": 1, "not_repaired": 0}
    assert found["filters"]["apology"]["removed"] == 0
    assert found["filters"]["similar-text"]["examples"][0]["why"] == "cat.jpg", (
        "the repaired texts are compared"
    )
    rows = {row["photo"]: row for row in lines(tmp_path / "run" / "repaired.jsonl")}
    assert rows["sorry.jpg"]["before"].startswith("I'm sorry")
    assert rows["sorry.jpg"]["text"] == f"{CAT} {SIT}"
    asked = [said[0] for key, said, _ in engine.asked if key == "repair"]
    assert all(isinstance(one, User) and one.text.startswith(INSTRUCTION) for one in asked)
    assert curate("--no-review", "--repair-with", "mini", "--json")[1] == out
    assert len(engine.asked) == 12, "nothing is asked twice"


def test_a_stopped_run_goes_on_with_what_is_missing(
    curate: Curate, engine: FakeEngine, tmp_path: Path
) -> None:
    engine.stops_at = "dog.jpg"
    assert curate("--no-review")[0] == 130
    with (tmp_path / "run" / "described.jsonl").open("a") as file:
        file.write('{"photo": "dog.jpg", "se')  # cut off by a kill
    engine.stops_at = ""
    engine.asked.clear()
    code, out, err = curate("--no-review", "--json")
    assert (code, json.loads(out)["kept"]) == (0, 2)
    assert "Resuming: 2 of 4 pictures are described." in err
    assert {key for key, _, _ in engine.asked} == {"dog.jpg", "sorry.jpg"}


@pytest.mark.parametrize("form", ["cc_sbu_align", "webdataset", "captions"])
def test_stage_2_reads_the_export(curate: Curate, tmp_path: Path, form: str) -> None:
    assert curate("--no-review", "--export", f"{form}:{tmp_path / 'out'}")[0] == 0
    photos = open_photos(tmp_path / "out")
    texts = {photos.meta(index)["captions"][0] for index in range(len(photos))}
    assert texts == {f"{CAT} {SIT}", f"{DOG} {SIT}"}


def test_without_a_review_nothing_is_exported(curate: Curate, tmp_path: Path) -> None:
    code, out, err = curate("--export", f"captions:{tmp_path / 'out'}")
    assert code == 1
    assert "waiting for a review" in out
    assert "Nothing was exported: 2 descriptions wait for a review; it begins at a terminal" in err
    assert not (tmp_path / "out").exists()


def test_at_a_terminal_the_review_opens_and_what_it_keeps_is_exported(
    curate: Curate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def review(reviews: Reviews) -> None:
        cat, dog = reviews.waiting
        reviews.drop(cat)
        reviews.edit(dog, "Two dogs play in a meadow.")

    monkeypatch.setattr(standalone, "at_terminal", lambda: True)
    monkeypatch.setattr(curating, "review_in_person", review)
    code, out, _ = curate("--export", f"captions:{tmp_path / 'out'}", "--json")
    assert code == 0
    assert json.loads(out)["review"] == {"waiting": 0, "edited": 1, "dropped": ["cat.jpg"]}
    assert lines(tmp_path / "out" / "captions.jsonl") == [
        {"photo": "dog.jpg", "captions": ["Two dogs play in a meadow."]}
    ]


def test_until_stops_after_a_step(curate: Curate, tmp_path: Path) -> None:
    assert curate("--until", "describe")[0] == 0
    assert not (tmp_path / "run" / "filtered.jsonl").exists()
    assert curate("--until", "filter")[0] == 0
    assert len(lines(tmp_path / "run" / "filtered.jsonl")) == 2
    assert not (tmp_path / "run" / "captions.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--limit", "2"], "data.pictures"),
        (["--seed", "5"], "sampling.seed"),
        (["--prompt", "What is it?"], "prompt"),
    ],
)
def test_another_run_is_refused_and_what_differs_named(
    curate: Curate, tmp_path: Path, arguments: list[str], named: str
) -> None:
    assert curate("--no-review")[0] == 0
    before = (tmp_path / "run" / "described.jsonl").read_bytes()
    code, _, err = curate("--no-review", *arguments)
    assert code == 2
    assert f"another {named}:" in err
    assert (tmp_path / "run" / "described.jsonl").read_bytes() == before


def test_a_missing_picture_is_named_and_the_rest_goes_on(
    curate: Curate, photos: Path, engine: FakeEngine
) -> None:
    (photos / "cat.jpg").write_bytes((photos / "cat.jpg").read_bytes()[:200])
    code, out, _ = curate("--no-review", "--json")
    assert code == 0
    failed = json.loads(out)["not_described"]
    assert [one["photo"] for one in failed] == ["cat.jpg"]
    assert failed[0]["error"]


def test_nothing_left_is_said(curate: Curate, tmp_path: Path) -> None:
    code, _, err = curate("--no-review", "--min-words", "100", "--export", f"captions:{tmp_path / 'out'}")
    assert code == 1
    assert "no description is left" in err
    assert not (tmp_path / "out").exists()


def test_a_killed_curation_of_real_pictures_resumes(mini_home: Path, tmp_path: Path) -> None:
    """Three example pictures, with the real model, killed after the first description."""
    (tmp_path / "photos").mkdir()
    for name in ("camera.png", "coffee.jpg", "rocket.jpg"):
        (tmp_path / "photos" / name).write_bytes((EXAMPLES / name).read_bytes())
    command = [
        *(sys.executable, "-P", "-m", "minigpt4.tui", "curate", str(tmp_path / "photos")),
        *("-o", str(tmp_path / "run"), "--no-review", "--max-tokens", "24", "--json"),
        *("--without", "repetition", "--without", "fragment", "--export", f"captions:{tmp_path / 'out'}"),
    ]
    rows = tmp_path / "run" / "described.jsonl"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        until = time.monotonic() + 200
        while not (rows.exists() and rows.read_bytes().count(b"\n")) and time.monotonic() < until:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    first = rows.read_bytes().partition(b"\n")[0]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert rows.read_bytes().startswith(first)
    assert [row["photo"] for row in lines(rows)] == ["camera.png", "coffee.jpg", "rocket.jpg"]
    assert json.loads(done.stdout)["described"] == 3
    assert len(open_photos(tmp_path / "out")) == json.loads(done.stdout)["kept"]
