"""Ask a source for the size of a file before its first byte, if the manifest does not state it."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass

from minigpt4.core.bundles.bundle import Source
from minigpt4.core.download.sources import (
    HEADERS,
    TIMEOUT_S,
    SourceError,
    connection_cause,
    first_line,
    hub_client,
    hub_reason,
)


@dataclass(frozen=True)
class Announced:
    """What a source says it has, before the first byte.

    `sha256` is None if the source does not publish it; `version` is a plain word that differs where the
    source's address or its content does.
    """

    bytes: int
    sha256: str | None
    version: str


def announced(source: Source) -> Announced:
    """What the source says it has, asked without fetching it; raises SourceError."""
    match source.kind:
        case "wheel":
            raise SourceError("the size of a file in a wheel is known only when it is here")
        case "hub":
            answer = _hub_announced(source)
        case "url":
            answer = _url_announced(source)
        case "path":
            answer = _path_announced(source)
    if answer.bytes == 0:
        raise SourceError("the file there is empty")
    return answer


def _hub_announced(source: Source) -> Announced:
    huggingface_hub = hub_client()
    url = huggingface_hub.hf_hub_url(
        source.repo, source.filename, repo_type=source.repo_type, revision=source.revision
    )
    try:
        facts = huggingface_hub.get_hf_file_metadata(url)
    except Exception as problem:  # the hub's client lets several HTTP libraries' own errors through
        raise SourceError(hub_reason(problem, source)) from problem
    if facts.size is None:
        raise SourceError("the hub does not report the file's size")
    etag = facts.etag or ""
    # Large files are kept under their SHA-256, small ones under git's own hash.
    sha256 = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    return Announced(facts.size, sha256, _version(source, facts.size, etag))


def _url_announced(source: Source) -> Announced:
    """Ask with HEAD, and where a server does not answer that, for the first byte alone."""
    try:
        try:
            return _answer_announced(source, "HEAD", {})
        except (urllib.error.HTTPError, SourceError):
            return _answer_announced(source, "GET", {"Range": "bytes=0-0"})
    except urllib.error.HTTPError as problem:
        raise SourceError(f"the server answered {problem.code} {problem.reason}") from problem
    except urllib.error.URLError as problem:
        raise SourceError(f"no connection ({connection_cause(problem)}); check the network") from problem
    except (http.client.HTTPException, OSError) as problem:
        raise SourceError(f"the connection broke: {first_line(problem)}") from problem


def _answer_announced(source: Source, method: str, headers: dict[str, str]) -> Announced:
    request = urllib.request.Request(source.url, headers={**HEADERS, **headers}, method=method)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        received = answer.headers
        # What a sharing site says about a quota, or a proxy about a login, is not a model.
        if received.get_content_type() == "text/html":
            raise SourceError("the server sent a web page instead of the file; look at it in a browser")
        total = received.get("Content-Range", "").rpartition("/")[2] or received.get("Content-Length", "")
        if not total.isdecimal():
            raise SourceError("the server does not report the file's size")
        stamp = received.get("ETag") or received.get("Last-Modified") or ""
        return Announced(int(total), None, _version(source, int(total), stamp))


def _path_announced(source: Source) -> Announced:
    if source.path is None or not source.path.is_file():
        raise SourceError("there is no such file")
    size = source.path.stat().st_size
    if source.member:
        try:
            with zipfile.ZipFile(source.path) as opened:
                size = opened.getinfo(source.member).file_size
        except (KeyError, zipfile.BadZipFile) as problem:
            raise SourceError(f"{source.path.name} holds no file {source.member}") from problem
    return Announced(size, None, _version(source, size, str(source.path.stat().st_mtime_ns)))


def _version(source: Source, size: int, stamp: str) -> str:
    return hashlib.sha256(f"{source.label} {size} {stamp}".encode()).hexdigest()[:8]
