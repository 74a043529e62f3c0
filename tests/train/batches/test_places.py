"""The sources of a run are found by name, and found again after their folders were moved or renamed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.errors import DataError
from minigpt4.train.batches.places import locate, with_own_photos
from minigpt4.train.recipe import Recipe, Source, Validation
from minigpt4.train.recipe_file import read_recipe, recipe_path

WriteShard = Callable[..., Path]
PEOPLE = Source(name="people", kind="captions", weight=3.0)
THINGS = Source(name="things", kind="labels", weight=1.0)


def recipe_of(*sources: Source) -> Recipe:
    recipe = read_recipe(recipe_path("mini-stage1"))
    return replace(recipe, source=sources, validation=Validation(name="", kind="captions", photos=3))


@pytest.fixture
def make(tmp_path: Path, write_shard: WriteShard) -> Callable[..., str]:
    """Write photos into each of the folders; returns the first one's path."""

    def write(*folders: str) -> str:
        for folder in folders:
            write_shard(f"{folder}/0.tar", {f"dog{number}": "A dog." for number in range(4)})
        return str(tmp_path / folders[0])

    return write


def test_a_missing_data_folder_is_an_error_with_the_expected_content() -> None:
    with pytest.raises(
        DataError, match=r"There is no data folder nowhere; give one with --data\. It should hold .* 'people'"
    ):
        locate(recipe_of(PEOPLE), ["nowhere"])


def test_a_missing_source_is_an_error_naming_the_existing_folders(make, tmp_path: Path) -> None:
    make("data/people", "data/things")
    with pytest.raises(
        DataError, match=r"has no folder 'cats' \(it holds people, things\); .*--set 'source\.cats\.weigh"
    ):
        locate(recipe_of(PEOPLE, replace(THINGS, name="cats")), [str(tmp_path / "data")])


def test_places_are_absolute_however_they_were_given(make, tmp_path: Path, monkeypatch) -> None:
    make("data/people", "things")
    monkeypatch.chdir(tmp_path)
    assert locate(recipe_of(PEOPLE, THINGS), ["data", "things"]) == {
        "people": str(tmp_path / "data" / "people"),
        "things": str(tmp_path / "things"),
    }


class TestResume:
    """`before` is what the run recorded when it was trained last."""

    def test_a_run_knows_where_its_data_were(self, make) -> None:
        before = {"people": make("anywhere/people")}
        assert locate(recipe_of(PEOPLE), [], before) == before

    def test_addresses_are_not_looked_up(self) -> None:
        before = {"people": "https://example.org/{0..9}.tar"}
        assert locate(recipe_of(PEOPLE), [], before) == before

    def test_shards_named_by_a_pattern_are_found_again(self, make, tmp_path: Path) -> None:
        make("people")
        before = {"people": str(tmp_path / "people" / "{0..0}.tar")}
        assert locate(recipe_of(PEOPLE), [], before) == before

    def test_the_folder_that_is_gone_is_named(self, tmp_path: Path) -> None:
        before = {"people": str(tmp_path / "data" / "flickr" / "people")}
        with pytest.raises(
            DataError, match=rf"were in {tmp_path}/data, which is gone; give their new place with --data\."
        ):
            locate(recipe_of(PEOPLE), [], before)

    def test_a_folder_under_another_name_is_the_missing_source(self, make, tmp_path: Path) -> None:
        renamed = make("renamed")
        recipe = with_own_photos(recipe_of(PEOPLE), [renamed])
        before = {"renamed": str(tmp_path / "original")}
        assert [source.name for source in recipe.source] == ["renamed"]
        other = make("other")
        assert locate(recipe, [other], before) == {"renamed": other}

    def test_one_of_two_folders_was_renamed(self, make, tmp_path: Path) -> None:
        things, moved = make("things"), make("moved")
        before = {"people": str(tmp_path / "people"), "things": things}
        assert locate(recipe_of(PEOPLE, THINGS), [moved], before) == {"people": moved, "things": things}

    def test_a_given_copy_is_used_instead_of_the_recorded_place(self, make) -> None:
        recorded, copy = make("people"), make("copy")
        assert locate(recipe_of(PEOPLE), [copy], {"people": recorded}) == {"people": copy}

    def test_the_new_folder_above_the_sources_may_be_given(self, make, tmp_path: Path) -> None:
        make("new/people", "new/things")
        before = {name: str(tmp_path / "old" / name) for name in ("people", "things")}
        found = locate(recipe_of(PEOPLE, THINGS), [str(tmp_path / "new")], before)
        assert found == {name: str(tmp_path / "new" / name) for name in ("people", "things")}

    def test_two_renamed_folders_are_taken_in_the_order_of_the_sources(self, make) -> None:
        first, second = make("first"), make("second")
        assert locate(recipe_of(PEOPLE, THINGS), [first, second], {}) == {"people": first, "things": second}

    def test_a_place_that_does_not_exist_is_never_ignored(self, make) -> None:
        with pytest.raises(DataError, match=r"There is no data folder nowhere; the run needs .* 'people'"):
            locate(recipe_of(PEOPLE), ["nowhere"], {"people": make("people")})

    def test_a_place_of_none_of_the_sources_is_an_error(self, make, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        before = {"people": make("people"), "things": make("things")}
        for given in (str(tmp_path / "empty"), make("copy")):
            with pytest.raises(DataError, match=rf"--data {given} does not hold .* 'people', 'things'"):
                locate(recipe_of(PEOPLE, THINGS), [given], before)

    def test_a_run_of_an_earlier_version_asks_for_the_place(self, make) -> None:
        with pytest.raises(DataError, match=r"does not record where the data of 'people' are; .*--data"):
            locate(recipe_of(PEOPLE), [], {})
        assert locate(recipe_of(PEOPLE), [make("people")], {}) == {"people": make("people")}
