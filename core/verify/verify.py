"""All checks of a bundle: `minigpt4 models verify`."""

from __future__ import annotations

from collections.abc import Iterator

from minigpt4.core.bundles.bundle import Bundle, load_bundle, manifest_path
from minigpt4.core.download.fetch import is_present
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.verify.checksums import file_checks, remedy
from minigpt4.core.verify.finding import Check, worst
from minigpt4.core.verify.language import form_checks, language_forms, language_width
from minigpt4.core.verify.pair import pair_checks
from minigpt4.core.verify.vision import objects_checks, projection_checks, qformer_checks, vision_checks


def verify(name: str, *, deep: bool = False) -> Iterator[Check]:
    """Check a bundle, one finding after the other, in seconds even for 26 GB.

    Small files are read whole and large ones in samples; `deep` computes every checksum and loads
    the model. Errors become findings, but an unknown name raises UsageError.
    """
    path = manifest_path(name)
    try:
        bundle = load_bundle(name)
    except BundleError as error:
        yield Check("manifest", "problem", str(error))
        return
    yield Check("manifest", "ok", f"{path}")
    found = []
    for check in _quick_checks(bundle, deep):
        found.append(check)
        yield check
    if not deep:
        return
    if worst(found) == "problem":
        yield Check("deep", "warning", "The model was not loaded; fix the problems above first.")
        return
    from minigpt4.core.verify.deep import deep_checks

    yield from _findings("deep", deep_checks(bundle))


def _quick_checks(bundle: Bundle, all_checksums: bool) -> Iterator[Check]:
    yield from file_checks(bundle, all_checksums=all_checksums)
    if bundle.mmproj is not None:
        yield from _findings("files", pair_checks(bundle))
        return
    if is_present(bundle.vision.file, bundle):
        yield from _findings("vision", vision_checks(bundle))
    if bundle.objects is not None and is_present(bundle.objects.file, bundle):
        yield from _findings("objects", objects_checks(bundle, bundle.objects))
    if bundle.qformer is not None and is_present(bundle.qformer.file, bundle):
        yield from _findings("qformer", qformer_checks(bundle, bundle.qformer))
    yield from _findings("language", _language_checks(bundle))
    file = bundle.projection.file
    if file is None or is_present(file, bundle):
        yield from _findings("projection", projection_checks(bundle, language_width(bundle)))


def _language_checks(bundle: Bundle) -> Iterator[Check]:
    forms = language_forms(bundle)
    if not forms:
        yield Check("language", "problem", f"The language model has no weights here; {remedy(bundle)}.")
    for form in forms:
        yield from _findings(form.subject, form_checks(form, bundle))


def _findings(subject: str, checks: Iterator[Check]) -> Iterator[Check]:
    """The checks; if an error is raised, it becomes the last finding."""
    try:
        yield from checks
    except (BundleError, BackendError) as error:
        yield Check(subject, "problem", str(error))
