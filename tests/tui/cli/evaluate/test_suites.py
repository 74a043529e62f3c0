"""`minigpt4 eval`: the scores on stdout, everything else on stderr, a file whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import minigpt4
from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.download.fetch import projection_path
from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Message, User
from minigpt4.core.types import ImageEmbedding, Sampling
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.tui.cli import options

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
        self.conversations: list[list[str]] = []

    def look(self, source: Picture) -> ImageEmbedding:
        source.image  # noqa: B018 (decoded, as an engine does)
        return ImageEmbedding(np.zeros((1, 4), np.float32), key=source.name)

    def reply(self, conversation: Sequence[Message], sampling: Sampling | None = None) -> FakeReply:
        first = conversation[0]
        assert isinstance(first, User)
        key = first.images[0].key
        self.asked.append((key, conversation[-1].text, sampling))
        self.conversations.append([message.text for message in conversation])
        if self.answers[key] == "interrupt":
            raise KeyboardInterrupt
        return FakeReply(self.answers[key])

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def a_photo() -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(drawn, "JPEG")
    return drawn.getvalue()


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        for key, captions in [*CAPTIONS.items(), ("damaged", ["A dog."])]:
            photo = b"no picture" if key == "damaged" else a_photo()
            meta = json.dumps({"captions": captions}).encode()
            for name, content in ((f"{key}.jpg", photo), (f"{key}.json", meta)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def engine(mini_home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Stands for mini, whose files are there: a run names them, and would fetch 125 MB for each test."""
    engine = FakeEngine(
        {"cat": "A cat sleeps on a couch.", "dog": "A man runs. A man runs.", "bird": "A bird on a"}
    )
    monkeypatch.setattr(options, "load_engine", lambda _options: engine)
    return engine


Run = Callable[..., tuple[int, str, str]]


def scores_of(out: str) -> dict[str, Any]:
    """Scores by name from --json."""
    return {score["name"]: score for score in json.loads(out)["scores"]}


def answers_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text("utf-8").splitlines()]


def test_captions_prints_every_score_and_what_was_skipped(run: Run, engine: FakeEngine, shard: Path) -> None:
    code, out, err = run("captions", "--data", shard)
    assert code == 0
    names = [line.split("  ")[0].strip() for line in out.splitlines()]
    assert names == [
        "answers",
        "CIDEr-D",
        *(f"BLEU-{n}" for n in range(1, 5)),
        "mean length (words)",
        "distinct words",
        "subject rate",
    ]
    assert "1 skipped: no caption (first: none)" in err
    assert "1 not answered; the first: damaged" in err
    assert [key for key, _, _ in engine.asked] == ["cat", "dog", "bird"]


def test_json_scores_are_those_of_the_metrics(run: Run, engine: FakeEngine, shard: Path) -> None:
    code, out, _ = run("captions", "--data", shard, "--json")
    assert code == 0
    whole, scores = json.loads(out), scores_of(out)
    assert (whole["suite"], whole["answers"], whole["not_answered"]) == ("captions", 3, 1)
    assert whole["model"]["bundle"] == "mini"
    assert scores["subject rate"]["value"] == pytest.approx(2 / 3)
    low, high = scores["subject rate"]["interval_95"]
    assert 0.2 < low < 2 / 3 < high < 0.95
    assert scores["mean length (words)"]["value"] == pytest.approx((6 + 6 + 4) / 3)
    assert 0 < scores["CIDEr-D"]["value"] < 10
    assert scores["distinct words"]["value"] == len("a cat sleeps on couch man runs bird".split())


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
    assert run(arguments[0], "--data", shard, *arguments[1:])[0] == 0
    for _, asked, sampling in engine.asked:
        assert asked == question
        assert sampling is not None
        assert sampling.temperature == 0


def test_a_question_may_come_after_another_one(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    asked, first = ["subjects", "--data", shard, "-o", tmp_path / "after"], "Where is it?"
    assert run(*asked, "--after", first)[0] == 0
    assert engine.conversations[0] == [first]
    assert engine.conversations[1] == [first, "A cat sleeps on a couch.", "What is in this picture?"]
    assert EvalRun.open(tmp_path / "after").header["options"]["after"] == first
    assert run(*asked)[0] == 2  # answers of the one kind are no answers of the other


def test_fluency_counts_failures_and_why(run: Run, engine: FakeEngine, shard: Path) -> None:
    scores = scores_of(run("fluency", "--data", shard, "--json")[1])
    shares = {name: score["value"] for name, score in scores.items()}
    assert shares["failed"] == pytest.approx(2 / 3)
    assert shares["repeats itself"] == shares["stops in mid-sentence"] == pytest.approx(1 / 3)
    assert shares["runs to the token limit"] == 0


def test_limit_counts_pictures(run: Run, engine: FakeEngine, shard: Path) -> None:
    assert json.loads(run("subjects", "--data", shard, "--json", "--limit", "2")[1])["answers"] == 2
    assert len(engine.asked) == 2


def test_a_run_keeps_every_answer_and_what_scoring_needs(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    assert run("captions", "--data", shard, "--output", tmp_path / "run")[0] == 0
    cat, *_, damaged = answers_in(tmp_path / "run")
    assert (cat["id"], cat["photo"], cat["set"]) == ("cat", "cat", "s.tar")
    assert (cat["answer"], cat["tokens"]) == ("A cat sleeps on a couch.", 7)
    assert cat["truth"] == {"captions": CAPTIONS["cat"]}
    assert cat["digest"] == hashlib.sha256(a_photo()).hexdigest()
    assert damaged["error"]
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    assert header["suite"] == "captions"
    assert header["sampling"]["temperature"] == 0
    assert header["versions"]["minigpt4"] == minigpt4.__version__


def test_a_stopped_run_resumes_with_what_is_missing(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    engine.answers["bird"] = "interrupt"
    code, out, _ = run("captions", "--data", shard, "--output", tmp_path / "run")
    assert (code, out) == (130, "")
    with (tmp_path / "run" / "answers.jsonl").open("a") as file:
        file.write('{"id": "bird", "photo": "bi')  # cut off by a kill
    engine.answers["bird"] = "A bird on a branch."
    engine.asked.clear()
    code, out, err = run("captions", "--data", shard, "--output", tmp_path / "run", "--json")
    assert code == 0
    assert "Resuming: 2 of 4 answers are there." in err
    assert [key for key, _, _ in engine.asked] == ["bird"]
    assert out == run("captions", "--data", shard, "--json")[1], "as if it had not been stopped"
    engine.asked.clear()
    again = run("captions", "--data", shard, "--output", tmp_path / "run", "--json")[1]
    assert (again, engine.asked) == (out, [])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["subjects"], "suite"),
        (["captions", "--limit", "1"], "options.limit"),
        (["captions", "--prompt", "Caption?"], "options.prompt"),
        (["captions", "--projection", "FOLDER"], "model.embedding"),
    ],
)
def test_another_run_is_refused_and_what_differs_named(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path, arguments: list[str], named: str
) -> None:
    folder = tmp_path / "run"
    assert run("captions", "--data", shard, "--output", folder)[0] == 0
    before = (folder / "answers.jsonl").read_bytes()
    weights = load_file(projection_path(load_bundle("mini")))
    save_file({name: weight * 2 for name, weight in weights.items()}, tmp_path / "other.safetensors")
    arguments = [str(tmp_path / "other.safetensors") if one == "FOLDER" else one for one in arguments]
    code, _, err = run(*arguments, "--data", shard, "--output", folder)
    assert code == 2
    assert len(err.splitlines()) <= 2 and f"another {named}:" in err.splitlines()[-1]
    assert (folder / "answers.jsonl").read_bytes() == before


def test_two_evaluations_cannot_share_a_folder(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    assert run("captions", "--data", shard, "--output", tmp_path / "run")[0] == 0
    with EvalRun.open(tmp_path / "run").locked():
        code, _, err = run("captions", "--data", shard, "--output", tmp_path / "run")
    assert code == 2
    assert "being written by another process" in err


def test_a_folder_with_other_files_is_refused(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    code, _, err = run("captions", "--data", shard, "--output", tmp_path)
    assert code == 2
    assert "no evaluation run, and not empty" in err
    assert engine.asked == []


def test_a_damaged_line_is_named(run: Run, engine: FakeEngine, shard: Path, tmp_path: Path) -> None:
    assert run("captions", "--data", shard, "--output", tmp_path / "run")[0] == 0
    answers = tmp_path / "run" / "answers.jsonl"
    answers.write_text("[1, 2]\n" + answers.read_text())
    code, _, err = run("captions", "--data", shard, "--output", tmp_path / "run")
    assert code == 1
    assert "answers.jsonl, line 1, is damaged" in err


def test_the_same_picture_name_in_two_sets_is_asked_about_once(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "cat.jpg").write_bytes(a_photo())
    (tmp_path / "own" / "captions.jsonl").write_text('{"photo": "cat.jpg", "captions": ["A cat."]}\n')
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "cat.jpg").write_bytes(a_photo())
    (tmp_path / "more" / "cat.txt").write_text("A cat.")
    engine.answers["cat.jpg"] = "A cat."
    code, out, err = run("subjects", "--data", tmp_path / "own", "--data", tmp_path / "more", "--json")
    assert code == 0
    assert json.loads(out)["answers"] == 1
    assert "1 skipped: another picture has the same name (first: cat.jpg)" in err


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--stage", "3"]])
def test_senseless_numbers_are_wrong_usage(
    run: Run, engine: FakeEngine, shard: Path, arguments: list[str]
) -> None:
    assert run("captions", "--data", shard, *arguments)[0] == 2


def test_a_missing_shard_fails_in_one_line_that_names_it(run: Run, engine: FakeEngine) -> None:
    code, out, err = run("captions", "--data", "nowhere.tar")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "nowhere.tar" in err


def test_shards_without_a_usable_photo_fail(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    empty = tmp_path / "empty.tar"
    tarfile.open(empty, "w").close()
    code, _, err = run("captions", "--data", empty)
    assert code == 1
    assert "no photo" in err


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
    place = tmp_path / "data"
    place.mkdir()
    code, out, err = run("captions", "--data", stored(place), "--json", "--output", tmp_path / "run")
    assert code == 0, err
    assert json.loads(out)["answers"] == 3
    answers = answers_in(tmp_path / "run")
    assert {answer["photo"].removesuffix(".jpg") for answer in answers} == {"cat", "dog", "bird"}
    cat = next(answer for answer in answers if answer["photo"].startswith("cat"))
    assert " ".join(cat["truth"]["captions"]) == " ".join(CAPTIONS["cat"])


def test_shards_and_folders_are_evaluated_together(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "fish.jpg").write_bytes(a_photo())
    (tmp_path / "own" / "fish.txt").write_text("A fish in a bowl.")
    engine.answers["fish.jpg"] = "A fish."
    given = ("--data", shard, "--data", tmp_path / "own", "--output", tmp_path / "run")
    assert run("subjects", *given)[0] == 0
    answers = [one for one in answers_in(tmp_path / "run") if not one["error"]]
    assert [(answer["photo"], answer["set"]) for answer in answers] == [
        ("cat", "s.tar"),
        ("dog", "s.tar"),
        ("bird", "s.tar"),
        ("fish.jpg", "own"),
    ]


def test_a_judged_suite_says_how_to_judge_and_has_no_score_before(
    run: Run, engine: FakeEngine, shard: Path, tmp_path: Path
) -> None:
    code, out, err = run("coverage", "--data", shard, "--output", tmp_path / "run")
    assert code == 0
    assert f"'minigpt4 eval judge {tmp_path / 'run'}'" in err
    assert [line.split("  ")[0] for line in out.splitlines()] == ["answers", "mean length (words)"]
    code, _, err = run("coverage", "--data", shard)
    assert code == 2
    assert "--output" in err
