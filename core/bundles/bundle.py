"""What a model is made of, read from a TOML manifest: core/bundles/*.toml and the user's own.

A manifest is called after its bundle (`mini.toml`). The user's own lie in the folder `bundles`
of the configuration folder; one with a shipped bundle's name takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.bundles.geometry import confused_sizes
from minigpt4.core.bundles.manifest import Table, read_manifest
from minigpt4.core.bundles.source import File, Source, read_file, read_path
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.paths import config_home
from minigpt4.core.prompt import TEMPLATES
from minigpt4.core.text import suggestion
from minigpt4.core.types import Sampling

__all__ = [
    "DEFAULT_BUNDLE",
    "SHIPPED_BUNDLES",
    "Bundle",
    "File",
    "LanguageGeometry",
    "LanguageSpec",
    "ProjectionSpec",
    "QFormerSpec",
    "Scalar",
    "Source",
    "VisionSpec",
    "bundle_names",
    "load_bundle",
    "manifest_path",
]

DEFAULT_BUNDLE = "mini"
SHIPPED_BUNDLES = Path(__file__).parent

Scalar = int | float | str | bool


@dataclass(frozen=True)
class VisionSpec:
    """The frozen vision tower: pixels (B, 3, image_size, image_size) scaled to 0..1, then (x - mean) / std.

    `options` are the tower's own settings (mini: `grid`, the side of its grid of features).
    """

    architecture: str
    file: File
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    options: Mapping[str, Scalar]


@dataclass(frozen=True)
class QFormerSpec:
    """The frozen Q-Former: the tower's tokens (B, N, D=tower width) -> (B, N=queries, D=width).

    `options` are whole numbers: `queries`, `width`, `layers`, `heads`, `mlp` and
    `cross_attention_every` (a layer in so many looks at the picture, the first one does).
    """

    file: File
    options: Mapping[str, Scalar]


@dataclass(frozen=True)
class ProjectionSpec:
    """The trained layer (B, N=image_tokens, D=inputs) -> (B, N, D=outputs).

    It either lies at `path` (absolute), beside the manifest, or is fetched as `file`:
    `fetch.projection_path` tells which. `layers` is 1, or 3 for the paper's ablation.
    """

    path: Path | None
    file: File | None
    inputs: int
    outputs: int
    image_tokens: int
    layers: int = 1


@dataclass(frozen=True, kw_only=True)
class LanguageGeometry:
    """The language model's sizes beside its width, for what has to be known before its files are here.

    `shared_embedding`: the output layer is the table of input embeddings.
    """

    layers: int
    mlp: int
    heads: int
    vocabulary: int
    key_value_heads: int
    shared_embedding: bool = False


@dataclass(frozen=True)
class LanguageSpec:
    """The frozen language model; `context` is the most positions we use, `width` its embedding's.

    Its weights are `files` to be fetched (one GGUF, or those of a Hugging Face folder), or lie in
    `folder`, a Hugging Face folder of the user's that is used where it is. language/weights.py finds them.
    """

    architecture: str
    context: int
    width: int
    files: tuple[File, ...]
    folder: Path | None = None
    geometry: LanguageGeometry | None = None

    @property
    def gguf(self) -> File | None:
        """The GGUF that the manifest itself names."""
        return next((file for file in self.files if file.name.endswith(".gguf")), None)

    @property
    def file(self) -> File:
        """The first of the files; raises BundleError where there is none."""
        if not self.files:
            raise BundleError(f"The language model lies in the folder {self.folder}; it is not one file.")
        return self.files[0]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A whole model: its parts, the prompt template's name and the default sampling."""

    name: str
    summary: str
    license: str
    vision: VisionSpec
    qformer: QFormerSpec | None = None
    projection: ProjectionSpec
    language: LanguageSpec
    template: str
    sampling: Sampling

    @property
    def files(self) -> tuple[File, ...]:
        """What has to be fetched, in the order of the parts."""
        return (*self.picture_files, *self.language.files)

    @property
    def picture_files(self) -> tuple[File, ...]:
        """Those of the files that turn pictures into embeddings: all but the language model's."""
        qformer = (self.qformer.file,) if self.qformer else ()
        projection = (self.projection.file,) if self.projection.file else ()
        return (self.vision.file, *qformer, *projection)


def bundle_names() -> list[str]:
    """Names of the shipped and the user's bundles, in order; their manifests are not read."""
    return sorted(_manifests())


def manifest_path(name: str) -> Path:
    """The manifest of a bundle; an unknown name is a UsageError that suggests the nearest."""
    manifests = _manifests()
    if name in manifests:
        return manifests[name]
    raise UsageError(f"There is no bundle '{name}'; {suggestion(name, sorted(manifests))}")


def load_bundle(name: str) -> Bundle:
    """The bundle of that name, its manifest checked whole.

    Raises UsageError for an unknown name, BundleError naming file and key for a manifest
    with an unknown, missing or ill-typed key.
    """
    top = read_manifest(manifest_path(name))
    bundle = Bundle(
        name=name,
        summary=top.text("summary"),
        license=top.text("license"),
        vision=_vision(top.table("vision")),
        qformer=_qformer(top.table("qformer")) if top.has("qformer") else None,
        projection=_projection(top.table("projection")),
        language=_language(top.table("language")),
        template=_template(top),
        sampling=_sampling(top.table("sampling")) if top.has("sampling") else Sampling(),
    )
    top.close()
    _check_parts(bundle, top)
    return bundle


def _check_parts(bundle: Bundle, top: Table) -> None:
    """Raise BundleError where what one part gives is not what the next one reads."""
    names = [file.name for file in bundle.files]
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"{top.path}: two files are called '{name}'; each needs a name of its own.")
    projection = bundle.projection
    if projection.outputs != bundle.language.width:
        outputs, width = projection.outputs, bundle.language.width
        fault = confused_sizes(outputs, width) or "they must agree"
        raise top.error("projection.outputs", f"is {outputs}, but 'language.width' is {width}; {fault}")
    if bundle.qformer is None:
        return
    for key, own, option in (
        ("inputs", projection.inputs, "width"),
        ("image_tokens", projection.image_tokens, "queries"),
    ):
        wanted = bundle.qformer.options[option]
        if own != wanted:
            raise top.error(
                f"projection.{key}", f"is {own}, but 'qformer.options.{option}' is {wanted}; they must agree"
            )


def _manifests() -> dict[str, Path]:
    folders = (SHIPPED_BUNDLES, config_home() / "bundles")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _vision(table: Table) -> VisionSpec:
    options = table.table("options").scalars() if table.has("options") else {}
    spec = VisionSpec(
        architecture=table.text("architecture"),
        file=read_file(table.table("file")),
        image_size=table.integer("image_size", least=1),
        mean=table.triple("mean", least=0.0, most=1.0),
        std=table.triple("std", least=1e-6, most=1.0),
        options=options,
    )
    table.close()
    return spec


def _qformer(table: Table) -> QFormerSpec:
    options = table.table("options")
    names = ("queries", "width", "layers", "heads", "mlp", "cross_attention_every")
    spec = QFormerSpec(
        file=read_file(table.table("file")), options={name: options.integer(name, least=1) for name in names}
    )
    options.close()
    table.close()
    return spec


def _projection(table: Table) -> ProjectionSpec:
    is_fetched = table.holds_table("file")
    layers = table.integer("layers", least=1) if table.has("layers") else 1
    if layers not in (1, 3):
        raise table.error("layers", f"is {layers}; it must be 1 or 3")
    spec = ProjectionSpec(
        path=None if is_fetched else read_path(table, "file"),
        file=read_file(table.table("file")) if is_fetched else None,
        inputs=table.integer("inputs", least=1),
        outputs=table.integer("outputs", least=1),
        image_tokens=table.integer("image_tokens", least=1),
        layers=layers,
    )
    table.close()
    return spec


def _language(table: Table) -> LanguageSpec:
    files, folder = _language_weights(table)
    spec = LanguageSpec(
        architecture=table.text("architecture"),
        context=table.integer("context", least=1),
        width=table.integer("width", least=1),
        files=files,
        folder=folder,
        geometry=_geometry(table.table("geometry")) if table.has("geometry") else None,
    )
    table.close()
    return spec


def _language_weights(table: Table) -> tuple[tuple[File, ...], Path | None]:
    """Either files to fetch or a folder; a manifest that gives both, or neither, is refused."""
    given = [key for key in ("file", "files", "folder") if table.has(key)]
    if len(given) > 1:
        raise table.error(given[1], f"cannot stand beside '{given[0]}'; keep one of them")
    match given:
        case ["folder"]:
            return (), read_path(table, "folder")
        case ["files"]:
            return tuple(read_file(file) for file in table.tables("files")), None
        case _:
            return (read_file(table.table("file")),), None


def _geometry(table: Table) -> LanguageGeometry:
    heads = table.integer("heads", least=1)
    has_groups = table.has("key_value_heads")
    geometry = LanguageGeometry(
        layers=table.integer("layers", least=1),
        mlp=table.integer("mlp", least=1),
        heads=heads,
        vocabulary=table.integer("vocabulary", least=1),
        key_value_heads=table.integer("key_value_heads", least=1) if has_groups else heads,
        shared_embedding=table.truth("shared_embedding") if table.has("shared_embedding") else False,
    )
    table.close()
    return geometry


def _template(top: Table) -> str:
    template = top.text("template")
    if template not in TEMPLATES:
        raise top.error("template", f"is '{template}'; known templates: {', '.join(TEMPLATES)}")
    return template


def _sampling(table: Table) -> Sampling:
    default = Sampling()
    sampling = Sampling(
        max_tokens=table.integer("max_tokens", least=1) if table.has("max_tokens") else default.max_tokens,
        temperature=_number_or(table, "temperature", default.temperature, least=0.0, most=10.0),
        top_p=_number_or(table, "top_p", default.top_p, least=0.0, most=1.0),
        top_k=table.integer("top_k", least=0) if table.has("top_k") else default.top_k,
        repetition_penalty=_number_or(
            table, "repetition_penalty", default.repetition_penalty, least=0.01, most=10.0
        ),
        seed=table.integer("seed", least=0) if table.has("seed") else default.seed,
    )
    table.close()
    return sampling


def _number_or(table: Table, key: str, default: float, *, least: float, most: float) -> float:
    return table.number(key, least=least, most=most) if table.has(key) else default
