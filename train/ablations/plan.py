"""What is trained and evaluated for the paper's ablations; the tables are in ablations.toml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.errors import UsageError
from minigpt4.core.storage.dataclass_toml import bounded, load_toml, read
from minigpt4.train.batches.places import locate, with_own_photos
from minigpt4.train.evaluate.run_folder import RunFolder
from minigpt4.train.recipe import Recipe
from minigpt4.train.recipe_file import read_recipe, recipe_path, stage_recipe, with_settings

TABLES = Path(__file__).with_name("ablations.toml")


@dataclass(frozen=True)
class Model:
    """A model to train."""

    name: str
    settings: tuple[str, ...] = ()
    """Overrides for both stages' recipes, in the form of `--set`."""

    share: float = bounded(0.001, 1, default=1.0)
    """The share of the first stage's steps."""

    needs_qformer: bool = False


@dataclass(frozen=True)
class Row:
    """A model in a table."""

    table: str
    name: str
    model: str
    stage: int = bounded(1, 2, default=2)
    """The stage after which it is evaluated."""

    paper: Mapping[str, float] = field(default_factory=dict)
    """The paper's figures, by their names."""


@dataclass(frozen=True)
class Column:
    """A score in all tables."""

    suite: str
    score: str


@dataclass(frozen=True)
class Tables:
    """The models, and the tables that compare them."""

    model: tuple[Model, ...]
    row: tuple[Row, ...]
    column: tuple[Column, ...]


def paper_tables() -> Tables:
    """The tables of the paper."""
    return read(Tables, load_toml(TABLES, "table of ablations", UsageError))


class AblationRun(RunFolder):
    """The folder of ablations; train/MODEL/stageN and eval/MODEL-stageN/SUITE are separate runs in it."""

    kind = "ablations"

    def training(self, model: str, stage: int) -> Path:
        """The folder of a training run."""
        return self.path / "train" / model / f"stage{stage}"

    def evaluation(self, model: str, stage: int, suite: str) -> Path:
        """The folder of an evaluation run."""
        return self.path / "eval" / f"{model}-stage{stage}" / suite

    @property
    def report(self) -> Path:
        """The tables, in Markdown."""
        return self.path / "report.md"

    @property
    def record(self) -> Path:
        """The tables, in JSON."""
        return self.path / "report.json"


@dataclass(frozen=True)
class Plan:
    """The ablations of a bundle."""

    bundle: str
    data: Sequence[str]
    steps: int | None = None
    """Steps of the full first stage; the second is scaled by the same factor. None: the recipes' steps."""

    settings: Sequence[str] = ()
    """Overrides for both stages' recipes, in the form of `--set`."""

    tables: Tables = field(default_factory=paper_tables)

    @cached_property
    def has_qformer(self) -> bool:
        """Whether the bundle has a Q-Former to leave out, or to train."""
        return load_bundle(self.bundle).qformer is not None

    def left_out(self, model: Model) -> str:
        """Why a model is not trained; empty if it is."""
        is_out = not self.has_qformer and model.needs_qformer
        return f"the bundle {self.bundle} has no Q-Former" if is_out else ""

    def models(self) -> Iterator[Model]:
        """The models that are trained."""
        return (model for model in self.tables.model if not self.left_out(model))

    def stages(self, model: str) -> list[int]:
        """The stages after which a model is evaluated."""
        return sorted({row.stage for row in self.tables.row if row.model == model})

    def suites(self) -> list[str]:
        """The suites that the tables' columns need."""
        return list(dict.fromkeys(column.suite for column in self.tables.column))

    def recipe(self, stage: int) -> Recipe:
        """A stage's recipe before the ablations; raises UsageError for a bad setting."""
        recipe = read_recipe(recipe_path(stage_recipe(stage, self.bundle)))
        return with_settings(with_own_photos(recipe, self.data), self.settings)

    def settings_of(self, model: Model, stage: int) -> list[str]:
        """The overrides for a model's stage: its length, and what distinguishes the model.

        Warm-up and the intervals of checkpoints and validations are scaled by the same factor as the steps.
        """
        recipe = self.recipe(stage)
        factor = 1.0 if self.steps is None else self.steps / self.recipe(1).steps
        factor *= model.share if stage == 1 else 1.0
        lengths = {
            "steps": max(1, round(recipe.steps * factor)),
            "warmup_steps": round(recipe.warmup_steps * factor),
            "checkpoint_every": max(1, round(recipe.checkpoint_every * factor)),
            "validate_every": max(1, round(recipe.validate_every * factor)),
            "sample_every": 0,  # the suites ask instead
            "sample_photos": 0,
        }
        changed = {name: value for name, value in lengths.items() if value != getattr(recipe, name)}
        return [*self.settings, *(f"{name}={value}" for name, value in changed.items()), *model.settings]

    def validation_places(self) -> list[str]:
        """The recipe's validation pictures; raises UsageError if they are held out of the sources.

        Raises DataError for missing data.
        """
        recipe = self.recipe(1)
        places = locate(recipe, self.data)
        if not recipe.validation.name:
            raise UsageError(
                "With pictures of your own, name others to evaluate on: give them with --eval-data."
            )
        return [places[recipe.validation.name]]
