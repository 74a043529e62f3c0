"""Recipes as TOML: parsed strictly, changed by settings, and written so that they read back equal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import UsageError
from minigpt4.train.recipe import Recipe, Source, Validation
from minigpt4.train.recipe_file import read_recipe, recipe_path, recipe_toml, with_settings

MakeRecipe = Callable[..., Recipe]
Edit = Callable[[str, str], Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """mini's first recipe with one text replaced."""

    def edit(old: str, new: str) -> Path:
        text = recipe_path("mini-stage1").read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    return edit


def error_in(path: Path) -> str:
    """The error about a recipe's file, without the path that it begins with."""
    with pytest.raises(UsageError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 1600", "stepps = 1600", "'stepps' is not a known key; did you mean 'steps'?"),
        ("views = 2", "view = 2", "'source[0].view' is not a known key; did you mean 'views'?"),
        ("photos = 96", "fotos = 96", "'validation.fotos' is not a known key; did you mean 'photos'?"),
        ("steps = 1600\n", "", "'steps' is missing."),
        ('kind = "captions"\n', "", "'source[0].kind' is missing."),
        ("[validation]", "[measured]", "a recipe needs a [validation] table."),
    ],
)
def test_an_invalid_key_is_reported_with_its_file(edited: Edit, old: str, new: str, message: str) -> None:
    assert error_in(edited(old, new)) == message


def test_an_unknown_key_without_a_near_one_is_answered_with_all_keys(edited: Edit) -> None:
    known = ", ".join(field.name for field in fields(Recipe))
    message = f"'zzz' is not a known key; the keys here are {known}."
    assert error_in(edited("seed = 0", "seed = 0\nzzz = 1")) == message


STEPS = "it must be a whole number of 1 or more."
SEEDS = "it must be a whole number from 0 to 9223372036854775807."
RATES = "it must be a number from 0 to 10."
LAYERS = "it must be one of 0, 1, 3."
TEXTS = 'it must be a list of texts, as in ["One.", "Two."].'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 1600", 'steps = "many"', f"'steps' is 'many'; {STEPS}"),
        ("steps = 1600", "steps = 1600.5", f"'steps' is 1600.5; {STEPS}"),
        ("steps = 1600", "steps = true", f"'steps' is True; {STEPS}"),
        ("steps = 1600", "steps = 0", f"'steps' is 0; {STEPS}"),
        ("steps = 1600", "steps = [1]", f"'steps' is [1]; {STEPS}"),
        ('bundle = "mini-without-detector"', "bundle = 3", "'bundle' is 3; it must be a text."),
        ("stage = 1", "stage = 3", "'stage' is 3; it must be a whole number from 1 to 2."),
        ("seed = 0", "seed = -1", f"'seed' is -1; {SEEDS}"),
        ("learning_rate = 5e-3", "learning_rate = nan", f"'learning_rate' is nan; {RATES}"),
        pytest.param(
            "learning_rate = 5e-3",
            f"learning_rate = 1{'0' * 400}",
            f"'learning_rate' is 1{'0' * 78}…; {RATES}",
            id="huge",
        ),
        pytest.param("seed = 0", f"seed = 1{'0' * 400}", f"'seed' is 1{'0' * 78}…; {SEEDS}", id="huge seed"),
        (
            "gradient_clip = 1.0",
            "gradient_clip = inf",
            "'gradient_clip' is inf; it must be a number of 0 or more.",
        ),
        ("cropped = 0.3", "cropped = 1.5", "'source[0].cropped' is 1.5; it must be a number from 0 to 1."),
        ("views = 2", "views = 65", "'source[0].views' is 65; it must be a whole number from 1 to 64."),
        (
            'prompt = "chat"',
            'prompt = "talk"',
            "'prompt' is 'talk'; it must be one of none, instruction, chat.",
        ),
        ("seed = 0", "seed = 0\nlayers = 2", f"'layers' is 2; {LAYERS}"),
        ("seed = 0", "seed = 0\nlayers = true", f"'layers' is True; {LAYERS}"),
        ("seed = 0", 'seed = 0\ninstructions = "One."', f"'instructions' is 'One.'; {TEXTS}"),
        ("seed = 0", "seed = 0\ninstructions = [1]", f"'instructions' is [1]; {TEXTS}"),
        (
            'kind = "captions"',
            'kind = "caption"',
            "'source[0].kind' is 'caption'; it must be one of captions, imagenet, labels, objects; "
            "did you mean 'captions'?",
        ),
    ],
)
def test_an_invalid_value_is_reported_with_the_valid_ones(
    edited: Edit, old: str, new: str, message: str
) -> None:
    assert error_in(edited(old, new)) == message


def test_a_file_that_is_no_recipe_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    with pytest.raises(UsageError, match=r"recipe\.toml cannot be read: No such file"):
        read_recipe(path)
    for content, problem in ((b"steps = = 1", "valid TOML"), (b"\xff\xfe", "UTF-8 text")):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=rf"recipe\.toml is not {problem}"):
            read_recipe(path)
    path.write_bytes(b"steps = 1")
    with pytest.raises(UsageError, match=r"recipe\.toml: a recipe needs at least one \[\[source\]\] table"):
        read_recipe(path)


def test_settings_change_single_keys_parsed_as_their_types(tiny_recipe: MakeRecipe) -> None:
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


def test_a_list_of_texts_is_set_in_toml_s_notation(tiny_recipe: MakeRecipe) -> None:
    changed = with_settings(tiny_recipe(), ["prompt=instruction", 'instructions=["One, two.", "Three."]'])
    assert changed.instructions == ("One, two.", "Three.")


def test_a_choice_among_numbers_is_set_as_a_number(tiny_recipe: MakeRecipe) -> None:
    assert with_settings(tiny_recipe(), ["layers=3"]).layers == 3


def test_a_recipe_is_found_by_its_name_or_its_file(tmp_path: Path) -> None:
    assert recipe_path("stage2").name == "stage2.toml"
    own = tmp_path / "own.toml"
    assert recipe_path(str(own)) == own  # a missing file is an error when it is read
    with pytest.raises(UsageError, match=r"There is no recipe 'stag2'; did you mean 'stage2'\?"):
        recipe_path("stag2")
    with pytest.raises(
        UsageError, match=r"There is no recipe 'xyz'; there is ablation-no-qformer, .* a file"
    ):
        recipe_path("xyz")


def test_a_source_is_found_by_any_name_a_folder_may_have() -> None:
    changed = with_settings(read_recipe(recipe_path("mini-stage1")), ["source.flickr8k/train.views=3"])
    assert changed.source[0].views == 3
    dotted = replace(changed, source=(replace(changed.source[0], name="my.photos.2020"),))
    assert with_settings(dotted, ["source.my.photos.2020.kind=labels"]).source[0].kind == "labels"


@pytest.mark.parametrize("setting", ["steps", "=3"])
def test_a_setting_without_a_key_and_a_value_is_refused(tiny_recipe: MakeRecipe, setting: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_settings(tiny_recipe(), [setting])
    assert str(caught.value) == f"'--set {setting}' is not of the form key=value."


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stps=3", "'stps' is not a known key; did you mean 'steps'?"),
        ("steps=1.5", f"'steps' is '1.5'; {STEPS}"),
        ("steps=", f"'steps' is ''; {STEPS}"),
        ("learning_rate=fast", f"'learning_rate' is 'fast'; {RATES}"),
        ("learning_rate=nan", f"'learning_rate' is nan; {RATES}"),
        ("learning_rate=1e999", f"'learning_rate' is inf; {RATES}"),
        ("layers=2", f"'layers' is 2; {LAYERS}"),
        ("layers=three", f"'layers' is 'three'; {LAYERS}"),
        ("stage=2.0", "'stage' is '2.0'; it must be a whole number from 1 to 2."),
        ("instructions=One.", f"'instructions' is 'One.'; {TEXTS}"),
        (
            "precision=fp8",
            "'precision' is 'fp8'; it must be one of fp32, bf16, fp16, int8, nf4; did you mean 'fp32'?",
        ),
        ("source.people.weigth=1", "'weigth' is not a known key; did you mean 'weight'?"),
        ("source.persons.weight=1", "there is no source 'persons'; there are people, things."),
        (
            "source.people.kind=words",
            "'kind' is 'words'; it must be one of captions, imagenet, labels, objects.",
        ),
        (
            "source=people",
            "'source' is a table; set one of its own keys, as in 'source.NAME.weight=0.5'.",
        ),
        (
            "validation=val",
            "'validation' is a table; set one of its own keys, as in 'source.NAME.weight=0.5'.",
        ),
        ("validation.photos=0", f"'photos' is 0; {STEPS}"),
    ],
)
def test_an_invalid_setting_is_quoted_in_its_error(
    tiny_recipe: MakeRecipe, setting: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        with_settings(tiny_recipe(), [setting])
    assert str(caught.value) == f"--set {setting}: {message}"


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
kinds = st.sampled_from(["captions", "imagenet", "labels", "objects"])
shares = st.floats(0, 1)
sources = st.builds(
    Source, name=names, kind=kinds, weight=st.floats(0.001, 1e9), views=st.integers(2, 64), cropped=shares
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    stage = draw(st.integers(1, 2))
    prompt = draw(st.sampled_from(["none", "instruction", "chat"]))
    asked = st.floats(0, 9) if stage == 2 and prompt == "chat" else st.just(0.0)
    counts = st.integers(1, 10**9)
    peak = draw(st.floats(0, 10))
    samples = draw(st.integers(0, 64))
    return Recipe(
        stage=stage,
        bundle=draw(names),
        start=draw(st.just("") | names),
        seed=draw(st.integers(0, 2**63 - 1)),
        steps=draw(counts),
        batch_size=draw(counts),
        micro_batch=draw(st.just(0) | counts),
        precision=draw(st.sampled_from(["fp32", "bf16", "fp16", "int8", "nf4"])),
        captions_per_photo=draw(st.floats(1, 9)),
        questions_per_photo=draw(asked),
        details_per_photo=draw(asked),
        caption_choice=draw(st.sampled_from(["any", "supported"])),
        precise_names=draw(shares),
        prompt=prompt,
        instructions=tuple(draw(st.lists(names, min_size=1, max_size=3))) if prompt == "instruction" else (),
        caption_form=draw(st.sampled_from(["written", "blip", "raw"])),
        text_tokens=draw(st.just(0) | counts),
        learning_rate=peak,
        warmup_rate=draw(st.floats(0, peak)),
        floor_rate=draw(st.floats(0, peak)),
        warmup_steps=draw(st.integers(0, 10**9)),
        cosine_over=draw(st.sampled_from(["all", "rest"])),
        beta1=draw(st.floats(0, 0.9999)),
        beta2=draw(st.floats(0, 0.99999)),
        weight_decay=draw(st.floats(0, 10)),
        gradient_clip=draw(st.floats(0, 1e300)),
        initial_std=draw(st.floats(0, 10)),
        class_name_scale=draw(st.floats(0, 1000)),
        layers=draw(st.sampled_from([0, 1, 3])),
        qformer=draw(st.sampled_from(["frozen", "none", "trained"])),
        checkpoint_every=draw(counts),
        validate_every=draw(counts),
        sample_every=draw(counts) if samples else 0,
        sample_photos=samples,
        bad_share=draw(shares),
        source=tuple(draw(st.lists(sources, min_size=1, max_size=3, unique_by=lambda one: one.name))),
        validation=Validation(name=draw(st.just("") | names), kind=draw(kinds), photos=draw(counts)),
    )


@settings(max_examples=60, deadline=None)
@given(recipe=recipes())
def test_a_written_recipe_reads_back_equal(recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(recipe_toml(recipe), encoding="utf-8")
        assert read_recipe(path) == recipe
