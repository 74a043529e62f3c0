"""The parts of a model, read from a TOML manifest: core/bundles/*.toml and the user's own.

A manifest is named after its bundle (`mini.toml`). The user's own are in the folder `bundles`
of the configuration folder; one with a shipped bundle's name takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigpt4.core.bundles.geometry import Fit, QFormerGeometry, size_mismatch
from minigpt4.core.bundles.source import File
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.prompt import TEMPLATES
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.dataclass_toml import (
    InvalidValueError,
    bounded,
    dumps,
    load_toml,
    plain,
    read,
    text,
)
from minigpt4.core.storage.paths import config_home
from minigpt4.core.text import suggestion
from minigpt4.core.types import ResolvedSampling

DEFAULT_BUNDLE = "mini"
SHIPPED_BUNDLES = Path(__file__).parent

OWN_TEMPLATE = "gguf"
"""In place of a prompt template's name: the chat template that the language GGUF brings."""

TEMPLATE_SUFFIXES = (".jinja", ".jinja2", ".j2", ".txt", ".json")

DETECTOR_SIZES = {"ssd-mobilenet-v2": 300}
"""The side of the pixels that a detector reads, by architecture."""

BESIDE_DETECTOR = "efficientnet-lite2"
"""The tower that reduces a detector's pixels to its own size."""

Scalar = int | float | str | bool


def is_own_template(name: str) -> bool:
    """Whether `name` is the GGUF's own template, one of those for GGUF files, or the path of a file."""
    from minigpt4.core.chat_template.named_templates import template_names

    return name == OWN_TEMPLATE or name in template_names() or name.endswith(TEMPLATE_SUFFIXES)


@dataclass(frozen=True)
class VisionSpec:
    """The frozen vision tower: pixels (B, 3, image_size, image_size) scaled to 0..1, then (x - mean) / std.

    `options` are the tower's own settings (mini: `grid`, the side of its grid of features). `fit` is how a
    picture becomes that square.
    """

    architecture: str
    file: File
    image_size: int = bounded(1)
    mean: tuple[float, float, float] = bounded(0, 1)
    std: tuple[float, float, float] = bounded(1e-6, 1)
    options: Mapping[str, Scalar] = field(default_factory=dict)
    fit: Fit = "squashed"


@dataclass(frozen=True)
class QFormerSpec:
    """The frozen Q-Former: the tower's tokens (B, N, D=tower width) -> (B, N=queries, D=width)."""

    file: File
    options: QFormerGeometry


@dataclass(frozen=True)
class ObjectsSpec:
    """The frozen detector beside the tower, whose objects are vectors of their own after the tower's.

    It sees the tower's pixels. `limit` is K, how many objects a picture can have at most; `min_score`
    is the least score of an object, 0 to 1. `soft_prompt` is how many vectors introduce the objects: the
    same for every picture and learned with the rest (Lester et al. 2021, arXiv 2104.08691).
    """

    architecture: str = field(metadata={"choices": tuple(DETECTOR_SIZES)})
    file: File
    limit: int = bounded(1, 100)
    min_score: float = bounded(0.01, 1)
    soft_prompt: int = bounded(0, 100, default=0)


@dataclass(frozen=True)
class ProjectionSpec:
    """The trained layer (B, N=image_tokens, D=inputs) -> (B, N, D=outputs).

    It is either the local file at `path` (absolute) or fetched as `file`:
    see `fetch.projection_path`. `layers` is 1, 2 in LLaVA, or 3 for the paper's ablation.
    """

    path: Path | None = field(metadata={"key": "file", "only": str})
    file: File | None = field(metadata={"only": dict})
    inputs: int = bounded(1)
    outputs: int = bounded(1)
    image_tokens: int = bounded(1)
    layers: int = field(default=1, metadata={"choices": (1, 2, 3)})

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """No file at all."""
        if self.path is None and self.file is None:
            yield "file", "must be the path of a file, or a table with its sources"


@dataclass(frozen=True)
class MmprojSpec:
    """The mmproj GGUF of a bundle of two GGUF files: vision tower and projection in one, read by libmtmd.

    It is either the local file at `path` (absolute, used where it lies) or fetched as `file`.
    """

    path: Path | None = field(metadata={"key": "file", "only": str})
    file: File | None = field(metadata={"only": dict})
    image_tokens: int = bounded(1, default=256)
    """About how many tokens of the context a photo takes, for estimates before it is encoded."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """No file at all."""
        if self.path is None and self.file is None:
            yield "file", "must be the path of a file, or a table with its sources"


class InsideMmproj:
    """Stands for the vision tower and the projection of a bundle whose mmproj holds both."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise BundleError(
            "A bundle of two GGUF files has its vision tower and projection inside its mmproj, where this "
            "program cannot train, replace or export them; choose a bundle with parts of its own, such as "
            f"'{DEFAULT_BUNDLE}'."
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InsideMmproj)

    def __hash__(self) -> int:
        return hash(InsideMmproj)


IN_MMPROJ: Any = InsideMmproj()


@dataclass(frozen=True, kw_only=True)
class LanguageGeometry:
    """The language model's sizes besides its width, for estimates before its files are downloaded.

    `key_value_heads` are as many as `heads` if they are not given; `shared_embedding`: the output
    layer shares its weights with the input embeddings.
    """

    layers: int = bounded(1)
    mlp: int = bounded(1)
    heads: int = bounded(1)
    vocabulary: int = bounded(1)
    key_value_heads: int = bounded(1, default=0)
    shared_embedding: bool = False

    def __post_init__(self) -> None:
        if not self.key_value_heads:
            object.__setattr__(self, "key_value_heads", self.heads)


@dataclass(frozen=True)
class LanguageSpec:
    """The frozen language model; `context` is the most positions we use, `width` its embedding's.

    Its weights are `files` to be fetched (one GGUF, or those of a Hugging Face folder), or those of
    `folder`, the user's own Hugging Face folder, or `path`, the user's own GGUF, both used in place.
    weights/locate.py finds them.
    """

    architecture: str = text()
    context: int = bounded(1)
    width: int = bounded(1)
    files: tuple[File, ...] = field(default=(), metadata={"single": "file"})
    folder: Path | None = None
    path: Path | None = field(default=None, metadata={"key": "gguf"})
    geometry: LanguageGeometry | None = None
    dequantised: bool = False
    """Whether llama.cpp uses the GGUF in F16, written once, unless another quantisation is asked for.

    Then its answers are torch's, which computes with the dequantised weights too: llama.cpp rounds the inputs
    of quantised ones to 8 bits. It reads a prompt of a small model faster, decodes it slower, and needs more
    memory (benchmarks/RESULTS.md).
    """

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Both files and a folder, or neither."""
        if self.files and self.folder is not None:
            yield "folder", "cannot stand beside 'files'; keep one of them"
        if self.path is not None and (self.files or self.folder is not None):
            yield "path", "cannot stand beside 'files' or 'folder'; keep one of them"
        if not self.files and self.folder is None and self.path is None:
            yield "file", "is missing"
        if self.dequantised and self.gguf is None:
            yield "dequantised", "is for a bundle that fetches a GGUF"

    @property
    def gguf(self) -> File | None:
        """The GGUF that the manifest itself names."""
        return next((file for file in self.files if file.name.endswith(".gguf")), None)

    @property
    def file(self) -> File:
        """The first of the files; raises BundleError if there is none."""
        if not self.files:
            if self.path is not None:
                raise BundleError(f"The language model is {self.path}; it is not fetched.")
            raise BundleError(f"The language model lies in the folder {self.folder}; it is not one file.")
        return self.files[0]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A whole model: its parts, the prompt template's name and the default sampling."""

    name: str
    summary: str = text()
    license: str = text()
    gate: str = text(default="")
    """What to ask for, and where, before the hub gives its files out; empty if it gives them to everybody."""

    vision: VisionSpec = IN_MMPROJ
    qformer: QFormerSpec | None = None
    objects: ObjectsSpec | None = None
    projection: ProjectionSpec = IN_MMPROJ
    mmproj: MmprojSpec | None = None
    """In place of `vision` and `projection`, which a bundle of two GGUF files has not."""
    language: LanguageSpec
    template: str = field(metadata={"choices": TEMPLATES, "others": is_own_template})
    """The name of a prompt template, OWN_TEMPLATE, or the path of a Jinja file."""
    sampling: ResolvedSampling = field(default_factory=ResolvedSampling)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Two files of one name, and parts whose sizes do not fit."""
        names = [file.name for file in self.files]
        for name in names:
            if names.count(name) > 1:
                yield name, "is the name of two files; give each a name of its own"
        parts = {"vision": self.vision, "projection": self.projection}
        absent = [name for name, part in parts.items() if isinstance(part, InsideMmproj)]
        if self.mmproj is not None:
            yield from self._pair_contradictions(absent)
            return
        if absent:
            yield absent[0], "is missing"
        if self.language.path is not None:
            yield "language", "has a 'gguf' of your own, which only a bundle with an 'mmproj' can use"
        if self.template not in TEMPLATES:
            yield "template", f"is '{self.template}'; it must be one of {', '.join(TEMPLATES)}"
        projection, width = self.projection, self.language.width
        if projection.outputs != width:
            fault = size_mismatch(projection.outputs, width) or "they must agree"
            yield "projection.outputs", f"is {projection.outputs}, but 'language.width' is {width}; {fault}"
        yield from self._object_contradictions()
        if self.qformer is None:
            return
        options = self.qformer.options
        for key, own, option, expected in (
            ("inputs", projection.inputs, "width", options.width),
            ("image_tokens", projection.image_tokens, "queries", options.queries),
        ):
            if own != expected:
                other = f"'qformer.options.{option}' is {expected}"
                yield f"projection.{key}", f"is {own}, but {other}; they must agree"

    def _pair_contradictions(self, absent: list[str]) -> Iterator[tuple[str, str]]:
        """Parts that an mmproj holds itself, and a language model that llama.cpp does not read."""
        if len(absent) < 2:
            yield "mmproj", "holds the vision tower and the projection; leave 'vision' and 'projection' out"
        if self.qformer is not None or self.objects is not None:
            yield "mmproj", "cannot stand beside 'qformer' or 'objects'"
        if self.language.gguf is None and self.language.path is None:
            yield "language", "must be a GGUF beside an 'mmproj'"

    def _object_contradictions(self) -> Iterator[tuple[str, str]]:
        """A detector beside a tower that it cannot stand beside, or that reads other pixels."""
        if self.objects is None:
            return
        vision, size = self.vision, DETECTOR_SIZES[self.objects.architecture]
        if vision.architecture != BESIDE_DETECTOR:
            yield "objects", f"is for the tower '{BESIDE_DETECTOR}', and this one is '{vision.architecture}'"
        elif vision.image_size != size:
            yield "vision.image_size", f"is {vision.image_size}, but the detector of 'objects' reads {size}"

    @property
    def image_tokens(self) -> int:
        """How many places of the context a picture takes; about, if its mmproj decides."""
        return self.mmproj.image_tokens if self.mmproj is not None else self.projection.image_tokens

    @property
    def files(self) -> tuple[File, ...]:
        """The files to be fetched, in the order of the parts."""
        return (*self.picture_files, *self.language.files)

    @property
    def picture_files(self) -> tuple[File, ...]:
        """The files that turn pictures into embeddings: all but the language model's."""
        if self.mmproj is not None:
            return (self.mmproj.file,) if self.mmproj.file else ()
        qformer = (self.qformer.file,) if self.qformer else ()
        projection = (self.projection.file,) if self.projection.file else ()
        objects = (self.objects.file,) if self.objects else ()
        return (self.vision.file, *objects, *qformer, *projection)


def bundle_names() -> list[str]:
    """Names of the shipped and the user's bundles, the default first; their manifests are not read."""
    return sorted(_manifests(), key=lambda name: (name != DEFAULT_BUNDLE, name))


def manifest_path(name: str) -> Path:
    """The manifest of a bundle; an unknown name is a UsageError that suggests the nearest."""
    manifests = _manifests()
    if name in manifests:
        return manifests[name]
    raise UsageError(f"There is no bundle '{name}'; {suggestion(name, bundle_names())}")


def own_manifest(name: str) -> Path:
    """The path of the manifest of a user's own bundle, existing or not."""
    return config_home() / "bundles" / f"{name}.toml"


def load_bundle(name: str) -> Bundle:
    """The bundle of that name, its whole manifest checked.

    Raises UsageError for an unknown name, BundleError naming file and key for a manifest
    with an unknown, missing or ill-typed key.
    """
    path = manifest_path(name)
    try:
        return read(Bundle, load_toml(path, "manifest", BundleError), base=path.parent, name=name)
    except InvalidValueError as problem:
        raise BundleError(f"{path}: {problem}") from problem


def write_manifest(bundle: Bundle, path: Path) -> None:
    """Write a bundle as a manifest that `load_bundle` reads back as the same bundle.

    The bundle's name is the file's: `path` should end in NAME.toml. Paths are absolute, so the
    manifest may be in any folder. Raises OSError if the file cannot be written.
    """
    table = plain(bundle)
    del table["name"]
    with replacing(path) as draft:
        draft.write_text(dumps(table), encoding="utf-8")


def _manifests() -> dict[str, Path]:
    folders = (SHIPPED_BUNDLES, config_home() / "bundles")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}
