"""Whether the two GGUF files of a bundle are complete, can be opened and belong together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.sources import size_text
from minigpt4.core.mtmd.try_pair import try_pair
from minigpt4.core.verify.checksums import remedy
from minigpt4.core.verify.finding import Check
from minigpt4.core.verify.samples import gguf_samples, weights_check
from minigpt4.core.weights.gguf.facts import checked_header, language_facts, mmproj_facts, split_files
from minigpt4.core.weights.locate import check_own_files, choose_gguf, mmproj_path


def pair_checks(bundle: Bundle) -> Iterator[Check]:
    """Check headers, weights, and loading in a separate llama.cpp process; raises BundleError for faults."""
    check_own_files(bundle)
    path, mmproj = choose_gguf(bundle), mmproj_path(bundle)
    if path is None or not mmproj.is_file():
        yield Check("language", "problem", f"The files are not here; {remedy(bundle)}.")
        return
    language, vision = language_facts(path), mmproj_facts(mmproj)
    yield Check(
        "language",
        "ok",
        f"{path.name}: {language.name}, {language.architecture} of width {language.width}, {language.quant}, "
        f"{size_text(language.bytes)}.",
    )
    for part in split_files(path, checked_header(path)):
        yield _weights("language weights", part, bundle)
    yield Check("vision", "ok", f"{mmproj.name}: {vision.name}, {vision.projector}, {vision.quant}.")
    yield _weights("vision weights", mmproj, bundle)
    tokens = try_pair(path, mmproj)
    yield Check("pair", "ok", f"llama.cpp opens both; a photo takes {tokens} tokens.")


def _weights(subject: str, path: Path, bundle: Bundle) -> Check:
    try:
        samples = list(gguf_samples(path, checked_header(path)))
    except NotImplementedError as error:
        return Check(
            subject,
            "warning",
            f"{path} is packed in a way that only llama.cpp reads ({error}), so its values were not checked; "
            "--deep runs the model itself.",
        )
    advice = remedy(bundle) if bundle.files else f"fetch {path} again"
    return weights_check(subject, samples, advice)
