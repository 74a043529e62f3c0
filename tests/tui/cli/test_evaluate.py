"""`minigpt4 eval`: the scores on stdout, everything else on stderr, a file whole or not at all."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Message, User
from minigpt4.core.types import ImageEmbedding, Sampling
from minigpt4.tui.cli import main, options

CAPTIONS = {
    "cat": ["A black cat sleeps on a sofa.", "The cat is on the couch.", "One cat on a couch."],
    "dog": ["A dog runs in the grass.", "A brown dog is running.", "The dog plays outside."],
    "none": [],
    "bird": ["A bird on a branch.", "A small bird sits in a tree.", "The bird sings."],
}


class FakeReply:
    finish: Any = "stop"
    answer_tokens = 7

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self) -> str:
        return self._text


class FakeEngine:
    """Answers by a table from the picture's name; `asked` keeps what it was asked, and how."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Sampling | None]] = []

    def look(self, source: Picture) -> ImageEmbedding:
        source.image  # noqa: B018 (decoded, as an engine does)
        return ImageEmbedding(np.zeros((1, 4), np.float32), key=source.name)

    def reply(self, conversation: Sequence[Message], sampling: Sampling | None = None) -> FakeReply:
        (message,) = conversation
        assert isinstance(message, User)
        key = message.images[0].key
        self.asked.append((key, message.text, sampling))
        if self.answers[key] == "interrupt":
            raise KeyboardInterrupt
        return FakeReply(self.answers[key])

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(drawn, "JPEG")
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        for key, captions in [*CAPTIONS.items(), ("damaged", ["A dog."])]:
            photo = b"no picture" if key == "damaged" else drawn.getvalue()
            meta = json.dumps({"captions": captions}).encode()
            for name, content in ((f"{key}.jpg", photo), (f"{key}.json", meta)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine(
        {"cat": "A cat sleeps on a couch.", "dog": "A man runs. A man runs.", "bird": "A bird on a"}
    )
    monkeypatch.setattr(options, "load_engine", lambda _options: engine)
    return engine


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["eval", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_captions_prints_every_score_and_what_was_skipped(run: Run, engine: FakeEngine, shard: Path) -> None:
    code, out, err = run("captions", shard)
    assert code == 0
    names = [line.split("  ")[0].strip() for line in out.splitlines()]
    assert names == [
        "photos",
        "CIDEr-D",
        *(f"BLEU-{n}" for n in range(1, 5)),
        "mean length (words)",
        "subject rate",
        "photos/s",
    ]
    assert "1 skipped: no caption" in err
    assert "damaged" in err
    assert [key for key, _, _ in engine.asked] == ["cat", "dog", "bird"]


def test_json_scores_are_those_of_the_metrics(run: Run, engine: FakeEngine, shard: Path) -> None:
    code, out, _ = run("captions", shard, "--json")
    scores = json.loads(out)
    assert code == 0
    assert scores["photos"] == 3
    assert scores["skipped"] == 2
    assert scores["subject_rate"] == pytest.approx(2 / 3)
    assert scores["mean_length"] == pytest.approx((6 + 6 + 4) / 3)
    assert 0 < scores["cider_d"] < 10
    assert set(scores) >= {"suite", "bundle", "question", "bleu_1", "bleu_4", "photos_per_s"}


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        (["captions", "--stage", "1"], ""),
        (["captions", "--prompt", "Caption?"], "Caption?"),
        (["subjects"], "What is in this picture?"),
        (["fluency"], "Describe this image in detail."),
    ],
)
def test_each_suite_asks_its_own_question_greedily(
    run: Run, engine: FakeEngine, shard: Path, arguments: list[str], question: str
) -> None:
    assert run(arguments[0], shard, *arguments[1:])[0] == 0
    for _, asked, sampling in engine.asked:
        assert asked == question
        assert sampling is not None
        assert sampling.temperature == 0


def test_fluency_counts_failures_and_why(run: Run, engine: FakeEngine, shard: Path) -> None:
    scores = json.loads(run("fluency", shard, "--json")[1])
    assert scores["failed"] == 2
    assert scores["repeats_a_sentence"] == 1
    assert scores["stops_in_mid_sentence"] == 1
    assert scores["runs_to_the_token_limit"] == 0


def test_limit_counts_answered_photos(run: Run, engine: FakeEngine, shard: Path) -> None:
    assert json.loads(run("subjects", shard, "--json", "--limit", "2")[1])["photos"] == 2
    assert len(engine.asked) == 2


def test_output_holds_every_answer_with_its_own_scores(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    assert run("captions", shard, "--output", output)[0] == 0
    cat, dog, _ = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert (cat["key"], cat["answer"], cat["names_subject"]) == ("cat", "A cat sleeps on a couch.", True)
    assert cat["captions"] == CAPTIONS["cat"]
    assert cat["cider_d"] > dog["cider_d"]
    assert dog["failures"] == ["repeats a sentence"]


def test_an_interrupt_leaves_an_earlier_output_as_it_was(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    output.write_text("before", "utf-8")
    engine.answers["bird"] = "interrupt"
    code, out, _ = run("captions", shard, "--output", output)
    assert (code, out) == (130, "")
    assert output.read_text("utf-8") == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "s.tar"]


@pytest.mark.parametrize("output", ["", "nowhere/answers.jsonl"])
def test_an_output_that_cannot_be_written_is_reported_before_anything_is_asked(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path, output: str
) -> None:
    code, _, err = run("captions", shard, "--output", tmp_path / output)
    assert code == 2
    assert "--output" in err
    assert engine.asked == []


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--stage", "3"]])
def test_senseless_numbers_are_wrong_usage(
    run: Run, engine: FakeEngine, shard: Path, arguments: list[str]
) -> None:
    assert run("captions", shard, *arguments)[0] == 2


def test_a_missing_shard_fails_in_one_line_that_names_it(run: Run, engine: FakeEngine) -> None:
    code, out, err = run("captions", "nowhere.tar")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "nowhere.tar" in err


def test_shards_without_a_usable_photo_fail(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    empty = tmp_path / "empty.tar"
    tarfile.open(empty, "w").close()
    code, _, err = run("captions", empty)
    assert code == 1
    assert "no photo" in err


def a_photo() -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(drawn, "JPEG")
    return drawn.getvalue()


def in_pairs(folder: Path) -> Path:
    for key, captions in CAPTIONS.items():
        (folder / f"{key}.jpg").write_bytes(a_photo())
        (folder / f"{key}.txt").write_text(" ".join(captions))
    return folder


def in_a_list(folder: Path) -> Path:
    in_pairs(folder)
    rows = [{"photo": f"{key}.jpg", "captions": captions} for key, captions in CAPTIONS.items()]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "captions.jsonl"


def in_coco(folder: Path) -> Path:
    (folder / "val2017").mkdir()
    in_pairs(folder / "val2017")
    images = [{"id": key, "file_name": f"{key}.jpg"} for key in CAPTIONS]
    annotations = [
        {"image_id": key, "caption": text} for key, captions in CAPTIONS.items() for text in captions
    ]
    (folder / "annotations").mkdir()
    (folder / "annotations" / "captions_val2017.json").write_text(
        json.dumps({"images": images, "annotations": annotations})
    )
    return folder


def in_align(folder: Path) -> Path:
    (folder / "image").mkdir()
    in_pairs(folder / "image")
    rows = [{"image_id": key, "caption": text} for key, captions in CAPTIONS.items() for text in captions]
    (folder / "filter_cap.json").write_text(json.dumps({"annotations": rows}))
    return folder


@pytest.mark.parametrize("stored", [in_pairs, in_a_list, in_coco, in_align])
def test_whatever_can_be_trained_on_can_be_evaluated(
    run: Run, engine: FakeEngine, tmp_path: Path, stored: Callable[[Path], Path]
) -> None:
    engine.answers = {
        name: answer
        for key, answer in engine.answers.items()
        for name in (key, f"{key}.jpg")  # a list calls its photos by their files
    }
    place, output = tmp_path / "data", tmp_path / "answers.jsonl"
    place.mkdir()
    code, out, err = run("captions", stored(place), "--json", "--output", output)
    assert code == 0, err
    assert json.loads(out)["photos"] == 3
    answers = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert {answer["key"].removesuffix(".jpg") for answer in answers} == {"cat", "dog", "bird"}
    cat = next(answer for answer in answers if answer["key"].startswith("cat"))
    assert " ".join(cat["captions"]) == " ".join(CAPTIONS["cat"])


def test_shards_and_folders_are_evaluated_together(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "fish.jpg").write_bytes(a_photo())
    (tmp_path / "own" / "fish.txt").write_text("A fish in a bowl.")
    engine.answers["fish.jpg"] = "A fish."
    output = tmp_path / "answers.jsonl"
    assert run("subjects", shard, tmp_path / "own", "--output", output)[0] == 0
    answers = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [(answer["key"], answer["shard"]) for answer in answers] == [
        ("cat", "s.tar"),
        ("dog", "s.tar"),
        ("bird", "s.tar"),
        ("fish.jpg", "own"),
    ]
