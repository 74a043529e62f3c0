"""The state of the engine's process, and the options that settings give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from minigpt4.tui.settings.settings import Settings

if TYPE_CHECKING:
    # Functions import `messages` lazily, here and in the app: its classes delay the first frame by 6 ms.
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.types import Sampling
    from minigpt4.core.worker.messages import Event


@dataclass(frozen=True)
class EngineStatus:
    """`file`, `done` and `total` (bytes) describe a download; `sentence`, `advice`, `details` an error."""

    state: Literal["off", "loading", "ready", "dead"] = "off"
    options: EngineOptions | None = None
    bundle: str = ""
    context: int = 0
    image_tokens: int = 0
    load_s: float = 0.0
    file: str = ""
    done: int = 0
    total: int | None = None
    sentence: str = ""
    advice: str = ""
    details: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    """What the engine chose for options that were left to it."""
    by_itself: bool = False
    """Whether it reads a question about a picture without the turns before it."""

    @classmethod
    def loading(cls, options: EngineOptions) -> EngineStatus:
        """The state once a model has been requested."""
        return cls("loading", options, options.bundle_name)

    def after(self, event: Event) -> EngineStatus:
        """The state after the event; the same object if the event does not concern the process."""
        from minigpt4.core.worker.messages import DownloadProgress, Exited, Failed, Ready

        match event:
            case DownloadProgress(file, done, total):
                return replace(self, state="loading", file=file, done=done, total=total)
            case Ready(bundle, _, context, image_tokens, load_s, choices, by_itself):
                return EngineStatus(
                    "ready",
                    self.options,
                    bundle,
                    context,
                    image_tokens,
                    load_s,
                    choices=choices,
                    by_itself=by_itself,
                )
            case Failed(None, sentence):
                advice = "Choose another model, or change the settings and start it again."
                return replace(self, state="dead", sentence=sentence, advice=advice, details="", file="")
            case Exited(sentence, advice, details):
                return replace(self, state="dead", sentence=sentence, advice=advice, details=details, file="")
        return self


def options_from(settings: Settings, projection: Path | None = None, offload: bool = False) -> EngineOptions:
    """The model that the settings name."""
    from minigpt4.core.engine_options import EngineOptions

    return EngineOptions(**_of_same_name(settings, EngineOptions), projection=projection, offload=offload)


def sampling_from(settings: Settings) -> Sampling:
    """The sampling options of the settings."""
    from minigpt4.core.types import Sampling

    return Sampling(**_of_same_name(settings, Sampling))


def _of_same_name(settings: Settings, kind: Any) -> dict[str, Any]:
    """The settings that a dataclass has fields for."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in vars(settings).items() if name in names}


def own_temperature(bundle: str) -> float:
    """The bundle's own temperature; 0 if its manifest cannot be read, which is reported elsewhere."""
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.errors import Minigpt4Error

    try:
        return load_bundle(bundle).sampling.temperature
    except Minigpt4Error:
        return 0.0
