"""The model of a plain chat, and the settings it was loaded with; both can be changed during the chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.cli import options

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine
    from minigpt4.tui.cli.options import Chosen
    from minigpt4.tui.settings.settings import Loaded, Origin


@dataclass
class PlainModel:
    """`chosen` is what the settings `loaded` and the projection choose, and `engine` runs it."""

    loaded: Loaded
    projection: Path | None
    offload_vision: bool
    chosen: Chosen
    engine: Engine

    def change(self, values: Mapping[str, Any], origin: Origin) -> bool:
        """Change some settings, with values from `origin`; returns whether the model changes, too.

        Another bundle has its own projection. Raises Minigpt4Error if the model cannot be loaded; then the
        previous one is loaded again, and all settings stay as they were.
        """
        loaded = given = self.loaded
        for name, value in values.items():
            loaded = loaded.with_value(name, value, origin)
            # An error must blame what was typed: the value is not in the settings yet.
            given = given.with_value(name, value, "flag")
        projection = None if "bundle" in values else self.projection
        chosen = options.choose(given, projection, offload_vision=self.offload_vision)
        is_other = chosen.model != self.chosen.model
        if is_other:
            options.fetch_files(chosen.model, bars=False)
            # Memory may not hold both at once.
            self.engine.close()
            try:
                self.engine = options.load_engine(chosen.model, bars=False)
            except Minigpt4Error:
                self.engine = options.load_engine(self.chosen.model, bars=False)
                raise
        self.loaded, self.projection, self.chosen = loaded, projection, chosen
        return is_other

    def restart(self) -> None:
        """Load the same model again. Raises Minigpt4Error if it cannot be loaded."""
        self.engine.close()
        self.engine = options.load_engine(self.chosen.model, bars=False)
