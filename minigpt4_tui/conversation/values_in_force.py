"""The effective values of settings that leave the choice to the terminal, the machine or the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.conversation.engine_status import EngineStatus
from minigpt4.tui.images.terminal_protocol import picture_protocol
from minigpt4.tui.settings.settings import Settings


def values_in_force(settings: Settings, engine: EngineStatus, *, shows_sidebar: bool) -> Mapping[str, str]:
    """The effective value of each setting that is None or "auto", by name; unknown ones are left out.

    The engine's choices are known while the model of the settings is loaded.
    """
    known: dict[str, Any] = {
        "images": picture_protocol(settings.images),
        "sidebar": "open" if shows_sidebar else "closed",
        "seed": "another each time",
        "system_prompt": "the model's own",
        **_of_bundle(settings.bundle),
    }
    if engine.state == "ready" and engine.bundle == settings.bundle:
        known |= {"context": engine.context, **engine.choices}
    return {name: str(value) for name, value in known.items() if getattr(settings, name) in (None, "auto")}


def _of_bundle(bundle: str) -> Mapping[str, Any]:
    """The bundle's own sampling; nothing if its manifest cannot be read, which is reported elsewhere."""
    from minigpt4.core.bundles.bundle import load_bundle

    try:
        sampling = load_bundle(bundle).sampling
    except Minigpt4Error:
        return {}
    names = ("max_tokens", "temperature", "top_p", "repetition_penalty")
    return {name: getattr(sampling, name) for name in names}
