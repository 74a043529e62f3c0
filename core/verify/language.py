"""Whether the language model is complete, is a LLaMA of the right size, and has its own vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.bundle_making.import_bundle import IMPORT_TEMPLATES
from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.geometry import LLAMA_SIZES
from minigpt4.core.errors import BundleError
from minigpt4.core.verify.checksums import remedy
from minigpt4.core.verify.delta import delta_check
from minigpt4.core.verify.finding import Check, State, listed
from minigpt4.core.verify.samples import Sample, gguf_samples, tensor_samples, weights_check
from minigpt4.core.weights.gguf.header import GgufHeader, GgufTensor, read_header
from minigpt4.core.weights.gguf.to_hf import check_gguf, hugging_face_name
from minigpt4.core.weights.hf_folder import CONFIG, LlamaFolder
from minigpt4.core.weights.llava_folder import read_language
from minigpt4.core.weights.locate import gguf_files, hf_folder
from minigpt4.core.weights.sentencepiece_vocab import TOKENIZER_MODEL, folder_vocabulary, read_sentencepiece

MORE_ROWS = 256
"""Up to this many embedding rows without a token count as padding; more belong to another model."""

SEPARATOR = (835, "\u2581###")
"""Id and text of the token in LLaMA's vocabulary that ends a turn of MiniGPT-4."""


_NOTHING = GgufTensor("", (), 0, 0)


@dataclass(frozen=True)
class Form:
    """An existing form of a bundle's language model: a Hugging Face folder or a GGUF."""

    subject: str
    path: Path

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()


def language_forms(bundle: Bundle) -> list[Form]:
    """The existing forms; raises BundleError if a user's folder is missing."""
    folder = hf_folder(bundle)
    forms = [] if folder is None else [Form("language", folder)]
    own = bundle.language.gguf
    for quant, path in gguf_files(bundle).items():
        is_only = own is not None and path.name == own.name
        forms.append(Form("language" if is_only else f"language {quant}", path))
    return forms


def language_width(bundle: Bundle) -> int | None:
    """The width of the language model's embedding; None if no form of it can be read."""
    with suppress(BundleError):
        for form in language_forms(bundle):
            with suppress(BundleError):
                if form.is_folder:
                    return LlamaFolder(form.path).shape.width
                return _header(form.path).tensors["token_embd.weight"].shape[-1]
    return None


def form_checks(form: Form, bundle: Bundle) -> Iterator[Check]:
    """Width, weights, vocabulary, and whether it is a model and not a delta."""
    yield from _folder_checks(form, bundle) if form.is_folder else _gguf_checks(form, bundle)


def _folder_checks(form: Form, bundle: Bundle) -> Iterator[Check]:
    shape = LlamaFolder(form.path).shape
    yield _width_check(form, bundle, shape.width)
    wanted = {hugging_face_name(name): size for name, size in shape.tensors().items()}
    samples = list(tensor_samples(read_language(form.path), wanted))
    yield _shapes_check(form, samples, wanted)
    advice = f"fetch {form.path} again" if bundle.language.folder else remedy(bundle)
    yield weights_check(f"{form.subject} weights", samples, advice)
    yield _folder_vocabulary_check(form, bundle, shape.vocabulary)
    yield delta_check(samples, _model_name(form.path))


def _gguf_checks(form: Form, bundle: Bundle) -> Iterator[Check]:
    header = _header(form.path)
    architecture = header.metadata.get("general.architecture")
    if architecture != bundle.language.architecture:
        raise BundleError(
            f"{form.path} holds a model of the architecture '{architecture}', and the bundle asks for "
            f"'{bundle.language.architecture}'; take the GGUF of the bundle's own model."
        )
    rows, width = header.tensors["token_embd.weight"].shape
    yield _width_check(form, bundle, width)
    try:
        samples = list(gguf_samples(form.path, header))
    except NotImplementedError as error:
        samples = []
        yield Check(
            f"{form.subject} weights",
            "warning",
            f"{form.path} is packed in a way that only llama.cpp reads ({error}), so its values were not "
            "checked; --deep runs the model itself.",
        )
    is_converted = bundle.language.gguf is None
    advice = f"remove it, and convert it again with `minigpt4 models quantize {bundle.name}`"
    if samples:
        yield weights_check(f"{form.subject} weights", samples, advice if is_converted else remedy(bundle))
    yield _rows_check(form, header.lengths.get("tokenizer.ggml.tokens", 0), rows, "its list of tokens")
    if samples:
        yield delta_check(samples, str(header.metadata.get("general.name", form.path.stem)))


def _header(path: Path) -> GgufHeader:
    check_gguf(path)
    try:
        header = read_header(path)
    except ValueError as error:
        raise BundleError(
            f"The language model {path} is damaged: {error}; fetch or make it again."
        ) from error
    if len(header.tensors.get("token_embd.weight", _NOTHING).shape) != 2:
        raise BundleError(f"{path} has no embedding 'token_embd.weight'; it is not a language model.")
    return header


def _width_check(form: Form, bundle: Bundle, width: int) -> Check:
    wanted = bundle.projection.outputs
    if width == wanted:
        return Check(form.subject, "ok", f"{form.path.name}, width {width} as the projection gives.")
    if width in LLAMA_SIZES and wanted in LLAMA_SIZES:
        confused = (
            f"this projection is for {LLAMA_SIZES[wanted]} (width {wanted}), and {form.path} is "
            f"{LLAMA_SIZES[width]} (width {width})"
        )
    else:
        confused = f"the projection gives vectors of width {wanted}, and {form.path} reads {width}"
    return Check(
        form.subject, "problem", f"{confused[0].upper()}{confused[1:]}; take the two from the same release."
    )


def _shapes_check(form: Form, samples: list[Sample], wanted: dict[str, tuple[int, ...]]) -> Check:
    subject = f"{form.subject} shapes"
    wrong = [sample for sample in samples if sample.shape != wanted[sample.name]]
    if not wrong:
        return Check(subject, "ok", f"{len(wanted)} tensors, shaped as {CONFIG} says.")
    first = wrong[0]
    return Check(
        subject,
        "problem",
        f"{len(wrong)} tensors have another shape than {CONFIG} says ({listed([one.name for one in wrong])}; "
        f"the first has {first.shape} instead of {wanted[first.name]}); weights and configuration belong to "
        "different models: fetch the whole folder again.",
    )


def _folder_vocabulary_check(form: Form, bundle: Bundle, rows: int) -> Check:
    try:
        folder_vocabulary(form.path, rows)
    except BundleError as error:
        return Check("tokenizer", "problem", str(error))
    texts = read_sentencepiece(form.path / TOKENIZER_MODEL).texts
    place, separator = SEPARATOR
    if bundle.template in IMPORT_TEMPLATES and (len(texts) <= place or texts[place] != separator):
        return Check(
            "tokenizer",
            "warning",
            f"{form.path / TOKENIZER_MODEL} is not LLaMA's own: token {place} is not '###', which ends a "
            "turn; take the tokenizer.model of the model's release.",
        )
    return _rows_check(form, len(texts), rows, TOKENIZER_MODEL)


def _rows_check(form: Form, tokens: int, rows: int, what: str) -> Check:
    if tokens > rows or rows - tokens > MORE_ROWS:
        state: State = "problem" if tokens > rows or not tokens else "warning"
        return Check(
            "tokenizer",
            state,
            f"{what} has {tokens} tokens, but {form.path.name} has {rows} embedding rows; they belong to "
            "different models: take both from the same release.",
        )
    more = f", {rows - tokens} of them padding" if rows > tokens else ""
    return Check("tokenizer", "ok", f"{tokens} tokens, {rows} embedding rows{more}.")


def _model_name(folder: Path) -> str:
    """The folder's name and, if the configuration states it, the model's origin."""
    try:
        origin = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("_name_or_path", "")
    except (OSError, ValueError):
        origin = ""
    return f"{folder.name} {origin}".strip()
