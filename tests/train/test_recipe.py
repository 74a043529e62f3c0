"""Recipes: read strictly, changed by typed settings, and written so that they read back equal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.bundle import SHIPPED_BUNDLES
from minigpt4.core.errors import UsageError
from minigpt4.train.recipe import (
    SHIPPED_RECIPES,
    Recipe,
    Source,
    Validation,
    read_recipe,
    recipe_toml,
    shipped_recipe,
    with_settings,
)

MakeRecipe = Callable[..., Recipe]
Edit = Callable[[str, str], Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """The first stage's recipe with one text replaced."""

    def edit(old: str, new: str) -> Path:
        text = shipped_recipe(1).read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    return edit


@pytest.mark.parametrize("path", sorted(SHIPPED_RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_whole_and_starts_from_a_projection_that_is_shipped(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.bundle == "mini"
    assert not recipe.start or (SHIPPED_BUNDLES / recipe.start).is_file()


@pytest.mark.parametrize("stage", [1, 2])
def test_the_shipped_recipes_train_mini(stage: int) -> None:
    recipe = read_recipe(shipped_recipe(stage))
    assert (recipe.stage, recipe.bundle) == (stage, "mini")
    assert recipe.warmup_steps < recipe.steps
    assert recipe.validation.name not in {source.name for source in recipe.source}
    # What is measured is captions of people, and most of what is learnt is, too.
    assert recipe.validation.kind == "captions"
    assert sum(one.weight for one in recipe.source if one.kind == "captions") >= 0.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 1600", "stepps = 1600", r"mine\.toml: there is no key 'stepps'; did you mean 'steps'\?"),
        ("views = 2", "view = 2", r"mine\.toml: source 1: there is no key 'view'; did you mean 'views'\?"),
        ("photos = 96", "fotos = 96", r"validation: there is no key 'fotos'; did you mean 'photos'\?"),
        ("seed = 0", "seed = 0\nzzz = 1", r"there is no key 'zzz'; known here: stage, bundle, start, seed"),
        ("steps = 1600\n", "", r"mine\.toml: 'steps' is missing\."),
        ('kind = "captions"\n', "", r"mine\.toml: source 1: 'kind' is missing\."),
        ("[validation]", "[measured]", r"mine\.toml: a recipe needs a \[validation\] table\."),
    ],
)
def test_a_wrong_key_is_named_with_its_file(edited: Edit, old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_recipe(edited(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 1600", 'steps = "many"', r"'steps' is 'many'; it must be a whole number\."),
        ("steps = 1600", "steps = 1600.5", r"'steps' is 1600\.5; it must be a whole number\."),
        ("steps = 1600", "steps = true", r"'steps' is True; it must be a whole number\."),
        ("steps = 1600", "steps = 0", r"'steps' is 0; it must be at least 1\."),
        ("steps = 1600", "steps = [1]", r"'steps' is \[1\]; it must be a whole number\."),
        ('bundle = "mini"', "bundle = 3", r"'bundle' is 3; it must be a text\."),
        ("stage = 1", "stage = 3", r"'stage' is 3; it must be between 1 and 2\."),
        ("seed = 0", "seed = -1", r"'seed' is -1; it must be between 0 and "),
        ("learning_rate = 5e-3", "learning_rate = nan", r"'learning_rate' is nan; it must be between 0"),
        pytest.param(
            "learning_rate = 5e-3", f"learning_rate = 1{'0' * 400}", r"'learning_rate' is inf;", id="huge"
        ),
        pytest.param("seed = 0", f"seed = 1{'0' * 400}", r"'seed' is 10+; it must be", id="huge seed"),
        ("gradient_clip = 1.0", "gradient_clip = inf", r"'gradient_clip' is inf; it must be at least 0\."),
        ("cropped = 0.3", "cropped = 1.5", r"source 1: 'cropped' is 1\.5; it must be between 0 and 1\."),
        ("views = 2", "views = 65", r"source 1: 'views' is 65; it must be between 1 and 64\."),
        (
            'kind = "captions"',
            'kind = "caption"',
            r"source 1: 'kind' is 'caption'; it must be 'captions' or 'imagenet' or 'labels'\.",
        ),
    ],
)
def test_a_value_of_the_wrong_type_or_size_is_named(edited: Edit, old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_recipe(edited(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"imagenet1000"', '"flickr8k/train"', "the source 'flickr8k/train' is given twice"),
        ("views = 2", "views = 1", "the source 'flickr8k/train' has no crops to see"),
        ("precise_names", "questions_per_photo = 1\nprecise_names", "stage 1 asks nothing"),
        ("captions_per_photo = 5", "captions_per_photo = 0.5", "less than one sentence is learnt of a photo"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    edited: Edit, old: str, new: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_recipe(edited(old, new))


def test_at_least_one_source_has_a_weight(tiny_recipe: MakeRecipe) -> None:
    recipe = with_settings(tiny_recipe(), ["source.things.weight=0"])
    with pytest.raises(UsageError, match="every source has the weight 0"):
        with_settings(recipe, ["source.people.weight=0"])


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    with pytest.raises(UsageError, match=r"recipe\.toml cannot be read: No such file"):
        read_recipe(path)
    for content in (b"steps = = 1", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"recipe\.toml is not valid TOML"):
            read_recipe(path)
    path.write_bytes(b"steps = 1")
    with pytest.raises(UsageError, match=r"recipe\.toml: a recipe needs at least one \[\[source\]\] table"):
        read_recipe(path)


def test_settings_change_single_keys_each_read_as_its_own_type(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe()
    typed = ["steps=9", "learning_rate = 1", "bundle=big", "source.people.weight=2", "validation.photos=5"]
    people, things = recipe.source
    assert with_settings(recipe, typed) == replace(
        recipe,
        steps=9,
        learning_rate=1.0,
        bundle="big",
        source=(replace(people, weight=2.0), things),
        validation=replace(recipe.validation, photos=5),
    )
    assert isinstance(with_settings(recipe, ["learning_rate=1"]).learning_rate, float)


def test_a_source_is_found_by_any_name_a_folder_may_have() -> None:
    changed = with_settings(read_recipe(shipped_recipe(1)), ["source.flickr8k/train.views=3"])
    assert changed.source[0].views == 3
    dotted = replace(changed, source=(replace(changed.source[0], name="my.photos.2020"),))
    assert with_settings(dotted, ["source.my.photos.2020.kind=labels"]).source[0].kind == "labels"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", r"'--set steps' is not of the form key=value\."),
        ("=3", r"'--set =3' is not of the form key=value\."),
        ("stps=3", r"--set stps=3: there is no key 'stps'; did you mean 'steps'\?"),
        ("steps=1.5", r"--set steps=1\.5: 'steps' must be a whole number\."),
        ("steps=", r"--set steps=: 'steps' must be a whole number\."),
        ("learning_rate=fast", r"'learning_rate' must be a number\."),
        ("learning_rate=nan", r"'learning_rate' is nan; it must be between 0 and 10\."),
        ("learning_rate=1e999", r"'learning_rate' is inf; it must be between 0 and 10\."),
        ("stage=2.0", r"'stage' must be a whole number\."),
        ("source.people.weigth=1", r"there is no key 'weigth'; did you mean 'weight'\?"),
        ("source.persons.weight=1", r"there is no source 'persons'; there is 'people' or 'things'\."),
        ("source.people.kind=words", r"'kind' is 'words'; it must be 'captions' or"),
        ("source=people", r"'source' is a table; set one of its own keys"),
        ("validation=val", r"'validation' is a table; set one of its own keys"),
        ("validation.photos=0", r"'photos' is 0; it must be at least 1\."),
    ],
)
def test_a_setting_that_does_not_fit_is_told_as_it_was_typed(
    tiny_recipe: MakeRecipe, setting: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        with_settings(tiny_recipe(), [setting])


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
kinds = st.sampled_from(["captions", "imagenet", "labels"])
shares = st.floats(0, 1)
sources = st.builds(
    Source, name=names, kind=kinds, weight=st.floats(0.001, 1e9), views=st.integers(2, 64), cropped=shares
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    stage = draw(st.integers(1, 2))
    asked = st.floats(0, 9) if stage == 2 else st.just(0.0)
    counts = st.integers(1, 10**9)
    return Recipe(
        stage=stage,
        bundle=draw(names),
        start=draw(st.just("") | names),
        seed=draw(st.integers(0, 2**63 - 1)),
        steps=draw(counts),
        photos_per_step=draw(counts),
        captions_per_photo=draw(st.floats(1, 9)),
        questions_per_photo=draw(asked),
        details_per_photo=draw(asked),
        precise_names=draw(shares),
        learning_rate=draw(st.floats(0, 10)),
        final_learning_rate=draw(shares),
        warmup_steps=draw(st.integers(0, 10**9)),
        beta1=draw(st.floats(0, 0.9999)),
        beta2=draw(st.floats(0, 0.99999)),
        weight_decay=draw(st.floats(0, 10)),
        gradient_clip=draw(st.floats(0, 1e300)),
        initial_std=draw(st.floats(0, 10)),
        class_name_scale=draw(st.floats(0, 1000)),
        checkpoint_every=draw(counts),
        validate_every=draw(counts),
        source=tuple(draw(st.lists(sources, min_size=1, max_size=3, unique_by=lambda one: one.name))),
        validation=Validation(name=draw(names), kind=draw(kinds), photos=draw(counts)),
    )


@settings(max_examples=60, deadline=None)
@given(recipe=recipes())
def test_a_written_recipe_reads_back_equal(recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(recipe_toml(recipe), encoding="utf-8")
        assert read_recipe(path) == recipe
