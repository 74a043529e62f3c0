"""`--projection` takes what a training run leaves: its result, a checkpoint, and the form of its bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.download.checksum_note import sha256_of
from minigpt4.core.download.fetch import is_present, path_of
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.vision.fingerprint import tower_fingerprint
from minigpt4.core.weights.run_projection import RunProjection, reshaped, run_projection

PAPERS = ("minigpt4-vicuna-7b", "minigpt4-vicuna-13b", "minigpt4-llama2-7b")


def make_run(folder: Path, *, steps: tuple[int, ...] = (), has_ended: bool = False, recipe: str = "") -> Path:
    """A run's folder; the files hold what tells them apart."""
    for step in steps:
        place = folder / "checkpoints" / str(step)
        place.mkdir(parents=True)
        (place / "projection.safetensors").write_text(f"step {step}")
        (place / "recipe.toml").write_text(recipe)
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(recipe)
    if has_ended:
        (folder / "projection.safetensors").write_text("result")
    return folder


def test_a_run_that_has_ended_gives_its_result(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(2, 4), has_ended=True)
    found = run_projection(run)
    assert (found.file, found.step) == (run / "projection.safetensors", None)


def test_a_run_that_continues_gives_its_newest_whole_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(8, 90, 100))
    (run / "checkpoints" / "100" / "projection.safetensors").unlink()
    (run / "checkpoints" / ".200.part").mkdir()
    found = run_projection(run)
    assert (found.file.read_text(), found.step) == ("step 90", 90)


def test_a_checkpoint_gives_its_own_projection(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(8, 90), has_ended=True)
    assert run_projection(run / "checkpoints" / "8").file.read_text() == "step 8"


def test_a_folder_without_a_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no projection\.safetensors"):
        run_projection(make_run(tmp_path / "run"))


def test_a_file_is_taken_as_it_is_and_need_not_be_there(tmp_path: Path) -> None:
    assert run_projection(tmp_path / "my.safetensors") == RunProjection(tmp_path / "my.safetensors")


def test_the_recipe_beside_a_projection_tells_its_bundle_and_form(tmp_path: Path) -> None:
    recipe = 'bundle = "minigpt4-vicuna-7b"\nlayers = 3\nqformer = "none"\nsteps = 5\n'
    run = make_run(tmp_path / "run", steps=(3,), has_ended=True, recipe=recipe)
    for given in (run, run / "projection.safetensors", run / "checkpoints" / "3"):
        found = run_projection(given)
        assert (found.bundle, found.layers, found.qformer) == ("minigpt4-vicuna-7b", 3, "none")


@pytest.mark.parametrize(
    "recipe", ["layers = ", "layers = 2", 'qformer = "maybe"', "bundle = 3", "layers = [1]"]
)
def test_a_recipe_that_says_nothing_sensible_is_named(tmp_path: Path, recipe: str) -> None:
    run = make_run(tmp_path / "run", has_ended=True, recipe=recipe)
    with pytest.raises(BundleError, match=r"recipe\.toml"):
        run_projection(run)


def test_a_bundle_stays_as_it_is_where_nothing_was_changed() -> None:
    for name in ("mini", *PAPERS):
        bundle = load_bundle(name)
        assert RunProjection(Path("p")).fitted(bundle) == bundle


def test_without_a_qformer_the_bundle_becomes_the_form_of_the_llama2_release() -> None:
    """Facts, section 8: four of the 256 patches of 1408 numbers make one of 64 vectors of 5632."""
    bundle = load_bundle("minigpt4-vicuna-7b")
    released = load_bundle("minigpt4-llama2-7b")
    made = RunProjection(Path("p"), qformer="none").fitted(bundle)
    assert made.qformer is None
    assert (made.projection.inputs, made.projection.image_tokens) == (5632, 64)
    assert made.vision.options == released.vision.options
    assert made.projection.inputs == released.projection.inputs


def test_three_layers_change_the_projection_alone() -> None:
    bundle = load_bundle("mini")
    made = RunProjection(Path("p"), layers=3).fitted(bundle)
    assert made == replace(bundle, projection=replace(bundle.projection, layers=3))


@pytest.mark.parametrize("name", ["mini", *PAPERS])
@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("qformer", ["frozen", "none"])
def test_training_and_chatting_agree_about_the_form(name: str, layers: int, qformer: str) -> None:
    from minigpt4.train.recipe import bundle_for
    from minigpt4.train.recipe_file import read_recipe, recipe_path, with_settings

    settings = [f"bundle={name}", f"layers={layers}", f"qformer={qformer}"]
    recipe = with_settings(read_recipe(recipe_path("stage1")), settings)
    bundle = load_bundle(name)
    assert reshaped(bundle, layers, qformer) == bundle_for(recipe, bundle)


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Bundle]:
    """A run that trained the Q-Former too, and its bundle."""
    run = make_run(
        tmp_path / "run", has_ended=True, recipe='bundle = "minigpt4-vicuna-7b"\nqformer = "trained"\n'
    )
    return run, load_bundle("minigpt4-vicuna-7b")


def test_a_qformer_that_was_trained_takes_the_place_of_the_bundles(trained: tuple[Path, Bundle]) -> None:
    run, bundle = trained
    own = run / "qformer.safetensors"
    own.write_bytes(b"weights")
    made = run_projection(run).fitted(bundle)
    assert made.qformer is not None and bundle.qformer is not None
    assert path_of(made.qformer.file, made) == own
    assert is_present(made.qformer.file, made)
    assert made.qformer.options == bundle.qformer.options
    assert made.projection == bundle.projection


def test_another_qformer_gives_other_image_embeddings(trained: tuple[Path, Bundle]) -> None:
    run, bundle = trained
    own = run / "qformer.safetensors"
    names = set()
    for weights in (b"one", b"two"):
        own.write_bytes(weights)
        made = run_projection(run).fitted(bundle)
        assert made.qformer is not None
        assert made.qformer.file.sha256 == sha256_of(own)
        tower = replace(made.vision, file=replace(made.vision.file, sha256="0" * 64))
        names.add(tower_fingerprint(replace(made, vision=tower)))
    assert len(names) == 2
    assert sorted(path.name for path in run.iterdir() if path.name.startswith(".")) == []


def test_a_trained_qformer_that_is_missing_is_named(trained: tuple[Path, Bundle]) -> None:
    run, bundle = trained
    with pytest.raises(BundleError, match=r"no qformer\.safetensors beside it"):
        run_projection(run).fitted(bundle)


def test_a_bundle_without_a_qformer_cannot_take_a_trained_one(trained: tuple[Path, Bundle]) -> None:
    run, _ = trained
    (run / "qformer.safetensors").write_bytes(b"weights")
    with pytest.raises(BundleError, match="give --bundle minigpt4-vicuna-7b"):
        run_projection(run).fitted(load_bundle("mini"))
