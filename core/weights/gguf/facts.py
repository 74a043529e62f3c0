"""Facts about a language GGUF and an mmproj, from their headers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.gguf.header import GgufHeader, Value, read_header

CLASS_ROW = "v.class_embd"
"""The tensor of a CLIP tower's class row."""

OUTPUT_TENSORS = {
    "mlp": ("mm.2.weight",),
    "idefics3": ("mm.model.fc.weight",),
    "qwen2vl_merger": ("mm.2.weight",),
    "qwen2.5vl_merger": ("mm.2.weight",),
}
"""The last matrix of a projector, whose rows are the language model's width, where that is known.

For others `clip.vision.projection_dim` states it; LLaVA's older files have CLIP's own width there."""

DEFAULT_PROJECTOR = "mlp"
"""LLaVA's, for files from before the key existed."""

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
MOST_SPLITS = 1000


@dataclass(frozen=True)
class LanguageFacts:
    """A language GGUF: its architecture, sizes, own chat template ("" for none) and quantisation.

    `weights` is how many numbers its tensors hold; for a split model, it and `bytes` cover all parts.
    """

    path: Path
    architecture: str
    name: str
    license: str
    quant: str
    width: int
    context: int
    layers: int
    mlp: int
    heads: int
    key_value_heads: int
    key_width: int
    value_width: int
    vocabulary: int
    template: str
    weights: int
    bytes: int

    def cache_bytes(self, context: int, number_bytes: int) -> int:
        """Bytes of the key/value cache of so many positions."""
        return (
            self.layers * self.key_value_heads * (self.key_width + self.value_width) * context * number_bytes
        )


@dataclass(frozen=True)
class MmprojFacts:
    """An mmproj: its projector's type, what it reads, and the width of its vectors (None: not known)."""

    path: Path
    name: str
    projector: str
    quant: str
    width: int | None
    image_size: int
    patch_size: int
    layers: int
    heads: int
    has_vision: bool
    has_audio: bool
    has_class_row: bool
    bytes: int

    @property
    def attention_bytes(self) -> int:
        """Bytes of one layer's attention scores over a picture of `image_size`, in float32."""
        patches = (self.image_size // max(self.patch_size, 1)) ** 2
        return 4 * self.heads * patches**2


def is_mmproj(header: GgufHeader) -> bool:
    """Whether the file is the vision (or audio) side of a model."""
    metadata = header.metadata
    return metadata.get("general.architecture") == "clip" or metadata.get("general.type") == "mmproj"


def language_facts(path: Path, header: GgufHeader | None = None) -> LanguageFacts:
    """Read a language model's facts; raises BundleError for another file, or if a part is missing."""
    header = header or checked_header(path)
    if is_mmproj(header):
        raise BundleError(
            f"{path} is an mmproj, the vision side of a model, not its language model; give it as --mmproj "
            "and the language model as --gguf."
        )
    metadata = header.metadata
    architecture = str(metadata.get("general.architecture", ""))

    def number(key: str, default: int = 0) -> int:
        value = metadata.get(f"{architecture}.{key}", default)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    width, heads = number("embedding_length"), max(number("attention.head_count"), 1)
    vocabulary = header.lengths.get("tokenizer.ggml.tokens", 0)
    if not architecture or not width or not vocabulary:
        missing = "architecture" if not architecture else "width" if not width else "vocabulary"
        raise BundleError(
            f"{path} does not state its {missing}; it is not a language model that can be used here."
        )
    parts = split_files(path, header)
    headers = [header, *(checked_header(part) for part in parts[1:])]
    return LanguageFacts(
        path=path,
        architecture=architecture,
        name=_name(metadata, path),
        license=_text(metadata, "general.license"),
        quant=_quant(metadata),
        width=width,
        context=max(number("context_length"), 1),
        layers=max(number("block_count"), 1),
        mlp=number("feed_forward_length"),
        heads=heads,
        key_value_heads=number("attention.head_count_kv", heads),
        key_width=number("attention.key_length", width // heads),
        value_width=number("attention.value_length", width // heads),
        vocabulary=vocabulary,
        template=_text(metadata, "tokenizer.chat_template"),
        weights=sum(math.prod(tensor.shape) for one in headers for tensor in one.tensors.values()),
        bytes=sum(part.stat().st_size for part in parts),
    )


def mmproj_facts(path: Path) -> MmprojFacts:
    """Read an mmproj's facts; raises BundleError for any other file."""
    header = checked_header(path)
    if not is_mmproj(header):
        raise BundleError(
            f"{path} is a language model ({header.metadata.get('general.architecture', 'unknown')}), not an "
            "mmproj; give it as --gguf and the file whose name begins with mmproj as --mmproj."
        )
    metadata = header.metadata

    def number(key: str) -> int:
        value = metadata.get(f"clip.vision.{key}", 0)
        return value if isinstance(value, int) else 0

    projector = _text(metadata, "clip.projector_type") or _text(metadata, "clip.vision.projector_type")
    has_vision = bool(metadata.get("clip.has_vision_encoder", False))
    projector = projector or (DEFAULT_PROJECTOR if has_vision else "")
    return MmprojFacts(
        path=path,
        name=_name(metadata, path),
        projector=projector,
        quant=_quant(metadata),
        width=_output_width(header, projector),
        image_size=number("image_size"),
        patch_size=number("patch_size"),
        layers=number("block_count"),
        heads=number("attention.head_count"),
        has_vision=has_vision,
        has_audio=bool(metadata.get("clip.has_audio_encoder", False)),
        has_class_row=CLASS_ROW in header.tensors,
        bytes=path.stat().st_size,
    )


def checked_header(path: Path, lists: Collection[str] = ()) -> GgufHeader:
    """The header of a complete GGUF; raises BundleError, stating the problem, for any other file."""
    try:
        header = read_header(path, lists)
        size = path.stat().st_size
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise BundleError(f"{path} is no GGUF that can be used: {error}; fetch it again.") from error
    if size < header.end:
        raise BundleError(
            f"{path} is cut short: it has {size} bytes and its weights end at {header.end}; fetch it again."
        )
    return header


def split_files(path: Path, header: GgufHeader) -> list[Path]:
    """The file, and the others if it is the first of several; raises BundleError if one is missing."""
    count = header.metadata.get("split.count", 0)
    if not isinstance(count, int) or count < 2:
        return [path]
    match = _SPLIT.fullmatch(path.name)
    if match is None or count > MOST_SPLITS or int(match["count"]) != count:
        raise BundleError(
            f"{path} is one of {count} parts, but its name does not say so; call it as it was published, "
            f"NAME-00001-of-{count:05}.gguf."
        )
    if int(match["number"]) != 1:
        raise BundleError(f"{path} is part {int(match['number'])} of {count}; give the first part.")
    parts = [
        path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)
    ]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise BundleError(
            f"{path} is one of {count} parts, and {missing[0]} is not beside it; fetch all of them."
        )
    return parts


def _output_width(header: GgufHeader, projector: str) -> int | None:
    for name in OUTPUT_TENSORS.get(projector, ()):
        if name in header.tensors and header.tensors[name].shape:
            return header.tensors[name].shape[0]
    if header.metadata.get("clip.has_llava_projector"):
        return None
    width = header.metadata.get("clip.vision.projection_dim")
    return width if isinstance(width, int) and width > 0 else None


def _name(metadata: dict[str, Value], path: Path) -> str:
    return _text(metadata, "general.name") or path.stem


def _text(metadata: dict[str, Value], key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""


def _quant(metadata: dict[str, Value]) -> str:
    """The quantisation's usual name; "GGUF" if the file does not state it or it is newer than this code."""
    from gguf import LlamaFileType

    number = metadata.get("general.file_type", -1)
    try:
        kind = LlamaFileType(number if isinstance(number, int) else -1)
    except ValueError:
        return "GGUF"
    return kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
