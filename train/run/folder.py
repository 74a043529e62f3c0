"""The folder of a training run: its files, its lock and its log.

RUN/recipe.toml                            what is trained
RUN/places.json                            where the data of each source are: resuming needs no --data
RUN/log.jsonl                              one JSON object per line: steps, validations, answers, notes
RUN/checkpoints/STEP/                      projection.safetensors, state.safetensors, state.json, recipe.toml
RUN/start/                                 the initial weights, if `start_share` mixes them into the result
RUN/projection.safetensors                 the result, float16, once training has ended
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.locks import acquire
from minigpt4.core.storage.regular_file import read_regular_file, require_regular_file
from minigpt4.core.weights.run_projection import CHECKPOINTS, PROJECTION, RECIPE, checkpoint_folders
from minigpt4.train.recipe import Recipe
from minigpt4.train.recipe_file import read_recipe, recipe_toml

LOCK_TRIES, LOCK_PAUSE_S = 4, 0.03

LOG, LOCK, PLACES = "log.jsonl", ".lock", "places.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training run."""

    path: Path

    @property
    def result(self) -> Path:
        """The trained projection."""
        return self.path / PROJECTION

    @property
    def start(self) -> Path:
        """The initial weights, if they are mixed into the result."""
        return self.path / "start"

    @property
    def recipe_file(self) -> Path:
        """The recipe of this run."""
        return self.path / RECIPE

    @property
    def log_file(self) -> Path:
        """The log: one JSON object per line."""
        return self.path / LOG

    @property
    def checkpoints_folder(self) -> Path:
        """The folder of the checkpoints, each in a folder named after its step."""
        return self.path / CHECKPOINTS

    @property
    def checkpoints(self) -> list[Path]:
        """Folders of complete checkpoints, the oldest first."""
        return checkpoint_folders(self.path)

    def require_empty(self) -> None:
        """Raise UsageError if the folder is not empty."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(
                f"--output {self.path} is a file; name a folder that is empty or does not exist."
            )
        if self.path.is_dir() and any(place.name != LOCK for place in self.path.iterdir()):
            raise UsageError(
                f"The folder {self.path} is not empty; continue the run in it with --resume, "
                "or name another folder with --output."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other training processes; raises UsageError if one holds the lock."""
        self.path.mkdir(parents=True, exist_ok=True)
        for place in (self.path / LOCK, self.log_file):
            require_file_of_run(place)
        with (self.path / LOCK).open("a+", encoding="utf-8") as file:
            if not _acquire(file):
                file.seek(0)
                raise UsageError(
                    f"Another process ({file.read().strip() or 'unknown'}) is training in {self.path}; wait "
                    "for it, stop it, or name another folder with --output."
                )
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield

    def create(self, recipe: Recipe, places: Mapping[str, str]) -> None:
        """Write the recipe of a new run and where its data are; raises UsageError if it is not empty."""
        self.require_empty()
        # The places first: with a recipe the folder is a run that can resume, which needs them.
        self.write_places(places)
        self.write_recipe(recipe)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the run's recipe, replacing an existing one."""
        with replacing(self.recipe_file) as draft:
            draft.write_text(recipe_toml(recipe), encoding="utf-8")

    def recipe(self) -> Recipe:
        """The recipe of the run; raises UsageError if there is no run."""
        if not self.recipe_file.is_file():
            raise UsageError(f"There is no run to resume in {self.path}; omit --resume to begin one.")
        return read_recipe(self.recipe_file)

    def write_places(self, places: Mapping[str, str]) -> None:
        """Record where each source was found: absolute paths and addresses, by the source's name."""
        with replacing(self.path / PLACES) as draft:
            draft.write_text(json.dumps(places, indent=2), encoding="utf-8")

    def places(self) -> Mapping[str, str]:
        """Where each source was last found; empty if unknown, as in runs of earlier versions."""
        try:
            places = json.loads(read_regular_file(self.path / PLACES))
        except (OSError, ValueError):
            return {}
        if not isinstance(places, dict):
            return {}
        return {name: place for name, place in places.items() if isinstance(place, str)}

    def append(self, row: Mapping[str, object]) -> None:
        """Add a line to the log."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def truncate_log(self, step: int) -> None:
        """Remove later steps from the log: they will be repeated."""
        if not self.log_file.is_file():
            return
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _step(line) <= step]
        with replacing(self.log_file) as draft:
            draft.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def require_file_of_run(path: Path) -> None:
    """Raise UsageError if something other than a file has the name of a run's file."""
    try:
        require_regular_file(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"The run's {path} cannot be read: {error.strerror or error}.") from error


def _acquire(file: TextIO) -> bool:
    """Lock the run; tried several times because `train --watch` holds a shared lock for an instant."""
    for attempt in range(LOCK_TRIES):
        if attempt:
            time.sleep(LOCK_PAUSE_S)
        if acquire(file, wait=False):
            return True
    return False


def _step(line: str) -> float:
    """The step of a line; a note has none and stays."""
    try:
        row = json.loads(line)
        return float(row["step"]) if "step" in row else float("-inf")
    except (ValueError, TypeError):
        return float("inf")  # an incomplete line, from a process that was killed
