"""Find a bundle's language model: a Hugging Face folder, GGUF files, or both.

Nothing is loaded here, and torch is not imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import bundles_folder, digest_of, is_present, path_of
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.text import suggestion

TORCH_QUANTS = ("fp32", "bf16", "fp16", "int8", "nf4")
GGUF_QUANTS = ("F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0")
"""The quantisations that `models quantize` makes; a manifest's own GGUF may be of another kind."""

GGUF_PREFERRED = ("Q4_K_M", "Q5_K_M", "Q4_0", "Q8_0", "F16")
"""The preference of `auto`: fast with little loss first."""

CONFIG = "config.json"
NAMELESS = "GGUF"
"""The quantisation of a file whose name does not state it."""

_QUANT_IN_NAME = re.compile(
    r"(?:^|[.\-_])(BF16|F16|F32|I?Q\d_[0-9A-Z]+(?:_[A-Z]+)?)(?:-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE
)


def check_quant(quant: str) -> None:
    """Raise UsageError for an unknown quantisation, suggesting the nearest known name."""
    known = ("auto", *TORCH_QUANTS, *GGUF_QUANTS)
    if quant in known or gguf_quant(f".{quant}.gguf") == quant:
        return
    raise UsageError(f"There is no quantisation '{quant}'; {suggestion(quant, known)}")


def hf_folder(bundle: Bundle) -> Path | None:
    """The Hugging Face folder (config.json, weights, tokenizer) of the language model.

    The user's own, or the bundle's if its files have been fetched; None if the bundle has only a GGUF
    or its files are missing. Raises BundleError for a user's folder that does not exist or holds no
    config.json.
    """
    own = bundle.language.folder
    if own is not None:
        if not (own / CONFIG).is_file():
            fault = f"holds no {CONFIG}" if own.is_dir() else "is not there"
            raise BundleError(
                f"The folder {own} of the language model of '{bundle.name}' {fault}; "
                "correct 'language.folder' in its manifest."
            )
        return own
    files = bundle.language.files
    if any(file.name == CONFIG for file in files) and all(is_present(file, bundle) for file in files):
        return bundles_folder() / bundle.name
    return None


def gguf_path(bundle: Bundle, quant: str) -> Path:
    """The path of the GGUF of that quantisation, whether it exists or not."""
    own = bundle.language.gguf
    if own is not None and quant == gguf_quant(own.name):
        return path_of(own, bundle)
    return bundles_folder() / bundle.name / "gguf" / f"{bundle.name}-{quant}.gguf"


def gguf_files(bundle: Bundle) -> dict[str, Path]:
    """The existing GGUF files, by quantisation: the manifest's own and those converted from the folder."""
    found: dict[str, Path] = {}
    own, in_place = bundle.language.gguf, bundle.language.path
    if in_place is not None and in_place.is_file():
        found[gguf_quant(in_place.name)] = in_place
    if own is not None and is_present(own, bundle):
        found[gguf_quant(own.name)] = path_of(own, bundle)
    made = bundles_folder() / bundle.name / "gguf"
    for quant in GGUF_QUANTS:
        path = made / f"{bundle.name}-{quant}.gguf"
        if quant not in found and path.is_file():
            found[quant] = path
    return found


def choose_gguf(bundle: Bundle, quant: str = "auto") -> Path | None:
    """The GGUF to use, or None if it does not exist.

    `auto` takes the manifest's own, dequantised if it says so, else the first of GGUF_PREFERRED. Raises
    UsageError for an unknown quantisation.
    """
    check_quant(quant)
    found = gguf_files(bundle)
    if quant != "auto":
        return found.get(quant)
    if bundle.language.path is not None:
        return next(iter(found.values()), None)
    own = bundle.language.gguf
    order = ((gguf_quant(own.name),) if own else ()) + GGUF_PREFERRED
    if bundle.language.dequantised:
        order = ("F16", *order)
    return next((found[name] for name in order if name in found), None)


def mmproj_path(bundle: Bundle) -> Path:
    """The path of the mmproj of a bundle of two GGUF files, downloaded or not."""
    spec = bundle.mmproj
    if spec is None:
        raise BundleError(f"The bundle '{bundle.name}' has no mmproj.")
    if spec.file is not None:
        return path_of(spec.file, bundle)
    assert spec.path is not None
    return spec.path


def check_own_files(bundle: Bundle) -> None:
    """Raise BundleError if a GGUF that a bundle of two GGUF files uses in place is gone."""
    own = (bundle.language.path, bundle.mmproj.path if bundle.mmproj else None)
    for path in own:
        if path is not None and not path.is_file():
            raise BundleError(
                f"{path}, which the bundle '{bundle.name}' uses where it lies, is not there; put it back, or "
                "import the bundle again with `minigpt4 models import --force`."
            )


def gguf_quant(name: str) -> str:
    """The quantisation that a GGUF's file name ends with; NAMELESS if there is none."""
    match = _QUANT_IN_NAME.search(name)
    return match[1].upper() if match else NAMELESS


def language_digest(bundle: Bundle) -> str:
    """64 hex digits that identify the language model's weights; equal only for equal files.

    One file's own SHA-256 if it is known or can be computed. A user's folder is identified by its files'
    sizes and modification times, because reading 26 GB would take minutes. Missing files count by name.
    """
    files, folder, path = bundle.language.files, bundle.language.folder, bundle.language.path
    if len(files) == 1 and (digest := digest_of(files[0], bundle)):
        return digest
    parts: list[tuple[str, object]] = [(file.name, digest_of(file, bundle)) for file in files]
    if folder is not None and folder.is_dir():
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        parts += [(path.name, (path.stat().st_size, path.stat().st_mtime_ns)) for path in paths]
    if path is not None and path.is_file():
        parts.append((path.name, (path.stat().st_size, path.stat().st_mtime_ns)))
    return hashlib.sha256(json.dumps([str(folder), parts]).encode()).hexdigest()
