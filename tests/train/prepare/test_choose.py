"""Sampling pairs: the exact number, uniformly, reproducible by seed, in constant memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.prepare import choose as module
from minigpt4.train.prepare.choose import Choice, chosen_rows, prepare, read_prepared, split_by

LAION, CC_SBU = "laion_synthetic_filtered_large", "ccs_synthetic_filtered_large"

WriteList = Callable[[str, int], Path]


@pytest.fixture
def write_list(tmp_path: Path) -> WriteList:
    def write(name: str, count: int) -> Path:
        path = tmp_path / f"{name}.json"
        rows = [{"caption": f"{name} {number}", "url": f"https://x.org/{number}"} for number in range(count)]
        path.write_text(json.dumps(rows))
        return path

    return write


def choice(*lists: Path, pairs: int, seed: int = 0, ratio: tuple[float, ...] | None = None) -> Choice:
    return Choice(lists=lists, pairs=pairs, seed=seed, ratio=ratio, image_size=224, original_size=False)


def captions(path: Path) -> list[str]:
    return [json.loads(line)["caption"] for line in path.read_text("utf-8").splitlines()]


@given(st.integers(0, 300), st.data())
def test_the_exact_number_of_rows_is_chosen_in_ascending_order(rows: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, rows))
    chosen = list(chosen_rows(rows, wanted, Random(data.draw(st.integers()))))
    assert len(chosen) == wanted
    assert chosen == sorted(set(chosen))
    assert all(0 <= row < rows for row in chosen)


def test_rows_are_chosen_uniformly() -> None:
    often = Counter(row for seed in range(4000) for row in chosen_rows(10, 3, Random(seed)))
    assert all(1100 < often[row] < 1300 for row in range(10))


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=6), st.integers(0, 10**7))
def test_a_split_adds_up_and_is_off_by_less_than_one(weights: list[float], total: int) -> None:
    parts = split_by(weights, total)
    assert sum(parts) == total
    assert all(
        abs(part - total * weight / sum(weights)) < 1 + 1e-6
        for part, weight in zip(parts, weights, strict=True)
    )


def test_released_lists_are_mixed_by_the_weights_of_recipe_stage1(
    write_list: WriteList, tmp_path: Path
) -> None:
    lists = write_list(CC_SBU, 300), write_list(LAION, 300)
    prepared = prepare(tmp_path / "out", choice(*lists, pairs=129))
    assert {share.name: share.pairs for share in prepared.shares} == {"cc_sbu": 14, "laion": 115}
    assert len(set(captions(tmp_path / "out" / "laion.jsonl"))) == 115


def test_other_lists_are_mixed_by_length_or_by_the_ratio(write_list: WriteList, tmp_path: Path) -> None:
    lists = write_list("mine", 300), write_list("yours", 100)
    by_length = prepare(tmp_path / "a", choice(*lists, pairs=40))
    assert [share.pairs for share in by_length.shares] == [30, 10]
    by_ratio = prepare(tmp_path / "b", choice(*lists, pairs=40, ratio=(1, 1)))
    assert [share.pairs for share in by_ratio.shares] == [20, 20]


def test_the_sample_depends_on_the_seed_alone(write_list: WriteList, tmp_path: Path) -> None:
    path = write_list("mine", 500)
    first, second, other = (
        captions(prepare(tmp_path / str(place), choice(path, pairs=50, seed=seed)).folder / "mine.jsonl")
        for place, seed in enumerate((1, 1, 2))
    )
    assert first == second
    assert set(first) != set(other)


def test_any_prefix_is_a_fair_sample(
    write_list: WriteList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is random over all piles, not the list's own."""
    monkeypatch.setattr(module, "PILE", 50)
    path = write_list("mine", 1000)
    numbers = [
        int(text.split()[1])
        for text in captions(prepare(tmp_path / "out", choice(path, pairs=400)).folder / "mine.jsonl")
    ]
    assert len(set(numbers)) == 400
    assert abs(sum(numbers[:100]) / 100 - 500) < 120
    assert abs(sum(numbers[-100:]) / 100 - 500) < 120


def test_a_prepared_folder_is_not_changed_even_without_its_lists(
    write_list: WriteList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_list("mine", 100)
    prepared = prepare(tmp_path / "out", choice(path, pairs=10))
    before = {place: place.stat().st_mtime_ns for place in prepared.folder.iterdir()}
    path.unlink()
    monkeypatch.setattr(module, "count_pairs", lambda *_, **__: pytest.fail("counted again"))
    assert prepare(tmp_path / "out", choice(path, pairs=10)) == prepared
    assert {place: place.stat().st_mtime_ns for place in prepared.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 5}, "seed 0 and not 5"),
        ({"pairs": 20}, "-n 10 and not 20"),
        ({"image_size": 260}, "image size 224 and not 260"),
        ({"original_size": True}, "original size False and not True"),
    ],
)
def test_a_folder_with_another_choice_is_refused_with_the_difference(
    write_list: WriteList, tmp_path: Path, change: dict[str, int], difference: str
) -> None:
    asked = choice(write_list("mine", 100), pairs=10)
    prepare(tmp_path / "out", asked)
    with pytest.raises(UsageError) as refused:
        prepare(tmp_path / "out", replace(asked, **change))  # type: ignore[arg-type]
    assert difference in str(refused.value)
    assert "another folder with --output" in str(refused.value)


def test_another_list_or_ratio_is_refused_too(write_list: WriteList, tmp_path: Path) -> None:
    one, two = write_list("one", 100), write_list("two", 100)
    asked = choice(one, two, pairs=10)
    prepare(tmp_path / "out", asked)
    for other, difference in (
        (choice(one, pairs=10), "lists one, two and not one"),
        (replace(asked, ratio=(4.0, 1.0)), "5 pairs and not 8 from one"),
    ):
        with pytest.raises(UsageError, match=difference):
            prepare(tmp_path / "out", other)
    write_list("two", 90)
    with pytest.raises(UsageError, match=r"another list .*two\.json"):
        prepare(tmp_path / "out", asked)


def test_an_impossible_choice_is_refused(write_list: WriteList, tmp_path: Path) -> None:
    one, two = write_list("one", 10), write_list("two", 1000)
    for asked, sentence in (
        (choice(one, two, pairs=100, ratio=(1, 1)), r"50 of the pairs .*one\.json, which has 10"),
        (choice(one, two, pairs=100, ratio=(1, 1, 1)), "--ratio has 3 numbers for 2 lists"),
        (choice(one, two, pairs=10, ratio=(1, 1000)), r"none would come from .*one\.json"),
        (choice(one, tmp_path / "sub" / "one.json", pairs=10), "would both be called 'one'"),
    ):
        with pytest.raises(UsageError, match=sentence):
            prepare(tmp_path / "out", asked)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_choice_leaves_an_unprepared_folder(write_list: WriteList, tmp_path: Path) -> None:
    path = write_list("mine", 100)

    def interrupt(doing: str, _done: int, _total: int) -> None:
        if doing.startswith("choosing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "out", choice(path, pairs=10), report=interrupt)
    assert list((tmp_path / "out").iterdir()) == []
    assert read_prepared(tmp_path / "out") is None
    assert prepare(tmp_path / "out", choice(path, pairs=10)).pairs == 10


def test_a_damaged_record_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "prepared.json").write_text('{"shares": 3}')
    with pytest.raises(DataError, match="delete it to sample again"):
        read_prepared(tmp_path)
