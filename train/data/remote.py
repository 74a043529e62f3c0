"""Shards on a web server, downloaded into the cache before they are read.

    cache_home()/remote/<server>-<hash of the folder's address>/00000.tar

A shard appears under its name when it is complete; an interrupted download resumes. A cached shard
is never requested again: delete it to download the server's current version.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from minigpt4.core.bundles.source import Source
from minigpt4.core.download.remote_size import RemoteFile, remote_file
from minigpt4.core.download.sources import SourceError, bring, space_problem
from minigpt4.core.errors import DataError
from minigpt4.core.storage.locks import locked
from minigpt4.core.storage.paths import cache_home
from minigpt4.train.events import PhotosFetched, Report

SIZE_REQUESTS = 8
"""Shards whose size is requested concurrently: a thousand requests take 0.1 s each."""

DOWNLOADS = 4
"""Concurrent downloads: one connection seldom saturates the bandwidth."""


def is_remote(place: str) -> bool:
    """Whether it is a URL."""
    return re.match(r"https?://", place, re.IGNORECASE) is not None


def fetched(urls: Sequence[str], name: str, report: Report) -> list[Path]:
    """The shards at these URLs as local files; raises DataError if one cannot be downloaded."""
    paths = [_cached_path(url) for url in urls]
    missing = [(url, path) for url, path in zip(urls, paths, strict=True) if not path.is_file()]
    if not missing:
        return paths
    with ThreadPoolExecutor(SIZE_REQUESTS) as pool:
        files = list(pool.map(_remote_file, [url for url, _ in missing]))
    total = sum(file.bytes for file in files)
    parts = [_part(path, file) for (_, path), file in zip(missing, files, strict=True)]
    done = sum(part.stat().st_size for part in parts if part.is_file())
    if problem := space_problem(cache_home(), total - done):
        raise DataError(f"The shards of '{name}' cannot be fetched: {problem}.")
    progress = _Progress(name, total, report)
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        jobs = [
            pool.submit(_fetch, url, path, file, progress)
            for (url, path), file in zip(missing, files, strict=True)
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            # Running downloads stop at their next chunk; their partial files remain.
            progress.is_stopped = True
            for job in jobs:
                job.cancel()
            raise
    return paths


class _Progress:
    """The downloaded bytes of all shards together."""

    def __init__(self, name: str, total: int, report: Report) -> None:
        self._name, self._total, self._report = name, total, report
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()
        self.is_stopped = False

    def update(self, url: str, done: int) -> None:
        """Report `done` bytes of a shard; raises InterruptedError once the download is stopped."""
        if self.is_stopped:
            raise InterruptedError("stopped")
        with self._lock:
            self._done[url] = done
            self._report(PhotosFetched(self._name, sum(self._done.values()), self._total))


def _fetch(url: str, path: Path, file: RemoteFile, progress: _Progress) -> None:
    part = _part(path, file)
    with locked(part):
        if not path.is_file():  # another process may have just downloaded it
            try:
                bring(Source(kind="url", url=url), file.bytes, part, lambda done: progress.update(url, done))
            except SourceError as problem:
                raise DataError(f"The shard {url} cannot be fetched: {problem}.") from problem
            part.replace(path)


def _remote_file(url: str) -> RemoteFile:
    try:
        return remote_file(Source(kind="url", url=url))
    except SourceError as problem:
        raise DataError(f"The shard {url} cannot be fetched: {problem}.") from problem


def _cached_path(url: str) -> Path:
    parts = urlsplit(url)
    folder, _, base = url.partition("?")[0].rpartition("/")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", base).lstrip(".-") or "shard.tar"
    where = hashlib.sha256(f"{folder}?{parts.query}".encode()).hexdigest()[:12]
    host = re.sub(r"[^A-Za-z0-9.-]+", "-", parts.hostname or "web")
    return cache_home() / "remote" / f"{host}-{where}" / plain


def _part(path: Path, file: RemoteFile) -> Path:
    # Named after the content, so that a partial download never resumes with other content.
    return path.with_name(f".{path.name}.{file.version}")
