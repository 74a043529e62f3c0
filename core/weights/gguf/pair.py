"""Check whether a language GGUF and an mmproj belong together, and find such a pair in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.gguf.facts import (
    LanguageFacts,
    MmprojFacts,
    checked_header,
    is_mmproj,
    language_facts,
    mmproj_facts,
)
from minigpt4.core.weights.locate import GGUF_PREFERRED

MARKS = {
    "idefics3": "<fake_token_around_image>",
    "gemma3": "<start_of_image>",
    "qwen2vl_merger": "<|vision_start|>",
    "qwen2.5vl_merger": "<|vision_start|>",
    "qwen3vl_merger": "<|vision_start|>",
}
"""The token that libmtmd puts before a picture, by projector; a vocabulary without it is another model's."""

ONLY_WITH = {"idefics3": "<fake_token_around_image>"}
"""Tokens that no other family has: a vocabulary with one of them is for this projector."""

PROJECTORS = {"gemma3": ("gemma3",)}
"""Language architectures that work with these projectors only."""

MMPROJ_PREFERRED = ("F16", "BF16", "Q8_0", "F32")
"""Which of a model's mmprojs to prefer: they are published in half precision."""

WHERE = (
    "a model's mmproj lies beside its GGUF files in the repository they come from (its name begins with "
    "mmproj); https://huggingface.co/ggml-org has such pairs"
)


def check_pair(language: LanguageFacts, mmproj: MmprojFacts, has_token: Callable[[str], bool]) -> None:
    """Raise BundleError if the two belong to different models, or the mmproj is not for pictures.

    `has_token` returns whether the language model's vocabulary has a token with that text. libmtmd itself
    accepts any mmproj of the right width.
    """
    if not mmproj.has_vision:
        raise BundleError(
            f"{mmproj.path} is {'for audio only' if mmproj.has_audio else 'not for pictures'}; audio and "
            "video are not supported: choose an mmproj with a vision encoder."
        )
    if mmproj.width is not None and mmproj.width != language.width:
        raise BundleError(
            f"{mmproj.path} gives vectors of width {mmproj.width} and {language.path} reads "
            f"{language.width}: they belong to different models; take both from one release."
        )
    mark = MARKS.get(mmproj.projector)
    allowed = PROJECTORS.get(language.architecture, (mmproj.projector,))
    theirs = [kind for kind, token in ONLY_WITH.items() if kind != mmproj.projector and has_token(token)]
    if (mark and not has_token(mark)) or mmproj.projector not in allowed or theirs:
        raise BundleError(
            f"{mmproj.path} ('{mmproj.projector}', {mmproj.name}) and {language.path} "
            f"('{language.architecture}', "
            f"{language.name}) are of different families; take both from one release."
        )


def find_pair(folder: Path) -> tuple[Path, Path]:
    """The language GGUF and the mmproj of a folder that belong together, judged by their headers.

    Of several quantisations the preferred one is taken. Raises BundleError, with a list of what is there, if
    there is no pair or the folder holds several models.
    """
    languages: list[LanguageFacts] = []
    mmprojs: list[MmprojFacts] = []
    for path in sorted(folder.glob("*.gguf")):
        if (part := re.search(r"-(\d{5})-of-\d{5}\.gguf$", path.name)) and int(part[1]) != 1:
            continue
        if is_mmproj(checked_header(path)):
            mmprojs.append(mmproj_facts(path))
        else:
            languages.append(language_facts(path))
    listed = _listed(languages, mmprojs)
    if not languages:
        raise BundleError(f"{folder} holds no language model as a GGUF.{listed}")
    mmprojs = [one for one in mmprojs if one.has_vision]
    if not mmprojs:
        raise BundleError(
            f"{folder} holds no mmproj for pictures, the vision side of the model: {WHERE}.{listed}"
        )
    pairs = [(one, two) for one in languages for two in mmprojs if two.width in (None, one.width)]
    best = max((_kinship(one.name, two.name) for one, two in pairs), default=0)
    pairs = [(one, two) for one, two in pairs if _kinship(one.name, two.name) == best]
    if not pairs:
        raise BundleError(f"No mmproj in {folder} has the width of a language model there.{listed}")
    if len({_words(one.name) for one, _ in pairs}) > 1:
        raise BundleError(
            f"{folder} holds several models; name the two files with --gguf FILE and --mmproj FILE.{listed}"
        )
    language, mmproj = min(
        pairs, key=lambda pair: (_rank(pair[0].quant, GGUF_PREFERRED), _rank(pair[1].quant, MMPROJ_PREFERRED))
    )
    return language.path, mmproj.path


def find_mmproj(gguf: Path) -> Path:
    """The mmproj beside a language GGUF; raises BundleError for none, or several candidates."""
    own = language_facts(gguf)
    beside = [path for path in sorted(gguf.parent.glob("*.gguf")) if path != gguf]
    mmprojs = [mmproj_facts(path) for path in beside if is_mmproj(checked_header(path))]
    fitting = [one for one in mmprojs if one.has_vision and one.width in (None, own.width)]
    if not fitting:
        raise BundleError(
            f"{gguf} is a language model alone; the file with its vision side is missing: {WHERE}. Give it "
            "as --mmproj FILE."
        )
    best = max(_kinship(own.name, one.name) for one in fitting)
    fitting = [one for one in fitting if _kinship(own.name, one.name) == best]
    if len({_words(one.name) for one in fitting}) > 1:
        raise BundleError(
            f"Several mmprojs beside {gguf} have its width; name one with --mmproj "
            f"FILE.{_listed([], fitting)}"
        )
    return min(fitting, key=lambda one: _rank(one.quant, MMPROJ_PREFERRED)).path


def _kinship(one: str, other: str) -> int:
    """How many words two files' names share."""
    return len(set(_words(one)) & set(_words(other)))


def _words(name: str) -> tuple[str, ...]:
    """A model's name in words, without those that differ between its files."""
    words = re.findall(r"[a-z0-9.]+", name.lower())
    return tuple(
        word
        for word in words
        if word not in ("mmproj", "gguf", "model") and not re.match(r"i?q\d|b?f(16|32)$", word)
    )


def _rank(quant: str, order: Sequence[str]) -> int:
    return order.index(quant) if quant in order else len(order)


def _listed(languages: Sequence[LanguageFacts], mmprojs: Sequence[MmprojFacts]) -> str:
    found = [f"{one.path.name} ({one.name}, {one.quant}, width {one.width})" for one in languages]
    found += [f"{one.path.name} (mmproj of {one.name}, {one.quant}, {one.projector})" for one in mmprojs]
    return f" It holds: {'; '.join(found)}." if found else ""
