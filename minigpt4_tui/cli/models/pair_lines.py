"""What `models show` prints about a bundle of two GGUF files: their own metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.sources import size_text
from minigpt4.core.errors import BundleError
from minigpt4.core.weights.gguf.facts import LanguageFacts, MmprojFacts, language_facts, mmproj_facts
from minigpt4.core.weights.locate import choose_gguf, mmproj_path


def pair_lines(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """A line for each file that is here."""
    language, vision = _facts(bundle)
    if vision is not None:
        kinds = "pictures, and audio, which is not supported" if vision.has_audio else "pictures"
        yield (
            "vision",
            f"{vision.name}: {vision.projector}, {vision.image_size}x{vision.image_size} pixels, patches of "
            f"{vision.patch_size}, {vision.quant}, reads {kinds}, about {bundle.image_tokens} tokens a photo",
        )
    if language is not None:
        template = "has a chat template" if language.template else "has no chat template"
        yield (
            "model",
            f"{language.name}: {language.layers} layers of {language.width}, {language.vocabulary} tokens, "
            f"made for {language.context} positions, {language.quant}, {template}",
        )


def own_file_lines(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """A line for each file that is used in place."""
    for path in (bundle.mmproj.path if bundle.mmproj else None, bundle.language.path):
        if path is not None:
            state = f"{size_text(path.stat().st_size)}, here" if path.is_file() else "absent"
            yield "file", f"{path} ({state})"


def pair_facts(bundle: Bundle) -> dict[str, object]:
    """The metadata of both files for JSON, without the chat template's text."""
    facts = dict(zip(("language", "vision"), _facts(bundle), strict=True))
    return {name: asdict(one) | {"template": None} for name, one in facts.items() if one is not None}


def _facts(bundle: Bundle) -> tuple[LanguageFacts | None, MmprojFacts | None]:
    """The files' metadata; None for an absent file, and for both if one is damaged (see `models verify`)."""
    path, mmproj = choose_gguf(bundle), mmproj_path(bundle)
    try:
        return (language_facts(path) if path else None), (mmproj_facts(mmproj) if mmproj.is_file() else None)
    except BundleError:
        return None, None
