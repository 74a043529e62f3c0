"""Shards on a web server: downloaded once, resumed after an interruption, never partial."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import DataError
from minigpt4.core.storage.paths import cache_home
from minigpt4.train.data.open import holds_photos, open_photos
from minigpt4.train.events import PhotosFetched

Files = dict[str, bytes]


@dataclass
class Served:
    """A web server's files, its requests, and the numbers of bytes after which it disconnects."""

    files: Files = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    disconnects_after: list[int] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(has_body=False)

        def do_GET(self) -> None:
            self.answer(has_body=True)

        def answer(self, *, has_body: bool) -> None:
            name, wanted = self.path.strip("/"), self.headers.get("Range")
            state.requests.append((self.command, name, wanted))
            if name not in state.files:
                self.send_error(404)
                return
            content = state.files[name]
            start = int((wanted or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", f'"{hash(content)}"')
            self.send_header("Content-Type", "application/x-tar")
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if has_body:
                end = start + state.disconnects_after.pop(0) if state.disconnects_after else len(content)
                self.wfile.write(content[start:end])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shards(served: Served, write_tar: Callable[..., Path], sample: Callable[..., Any]) -> Served:
    for number, key in enumerate("abc"):
        served.files[f"{number}.tar"] = write_tar(f"{number}.tar", sample(key, f"Photo {key}.")).read_bytes()
    return served


def in_the_cache() -> list[str]:
    return sorted(path.name for path in (cache_home() / "remote").rglob("*.tar"))


def test_shards_are_downloaded_once_and_then_read_without_the_server(shards: Served, events: Any) -> None:
    place = f"{shards.address}/{{0..2}}.tar"
    assert holds_photos(place)
    assert shards.requests == []
    photos = open_photos(place, report=events)
    assert [photos.key(number) for number in range(len(photos))] == ["a", "b", "c"]
    progress = [event for event in events.reported if isinstance(event, PhotosFetched)]
    total = sum(map(len, shards.files.values()))
    assert progress[-1] == PhotosFetched("{0..2}.tar", total, total)
    shards.requests.clear()
    shards.files.clear()
    assert open_photos(place).fingerprint == photos.fingerprint
    assert shards.requests == []


def test_an_interrupted_download_resumes(shards: Served) -> None:
    shards.disconnects_after = [1000, 0]
    with pytest.raises(DataError, match=r"1\.tar cannot be fetched: .*run the command again to resume"):
        open_photos(f"{shards.address}/1.tar")
    assert in_the_cache() == []
    shards.requests.clear()
    assert open_photos(f"{shards.address}/1.tar").key(0) == "b"
    assert ("GET", "1.tar", "bytes=1000-") in shards.requests
    assert in_the_cache() == ["1.tar"]


def test_a_partial_download_does_not_resume_with_other_content(
    shards: Served, write_tar: Callable[..., Path], sample: Callable[..., Any]
) -> None:
    shards.disconnects_after = [1000, 0]
    with pytest.raises(DataError, match="cannot be fetched"):
        open_photos(f"{shards.address}/1.tar")
    shards.files["1.tar"] = write_tar("new.tar", sample("z", "Another.")).read_bytes()
    assert open_photos(f"{shards.address}/1.tar").key(0) == "z"


def test_shards_of_the_same_name_from_two_folders_are_distinct(shards: Served) -> None:
    shards.files["deep/0.tar"] = shards.files["2.tar"]
    assert open_photos(f"{shards.address}/0.tar").key(0) == "a"
    assert open_photos(f"{shards.address}/deep/0.tar").key(0) == "c"


def test_a_missing_shard_is_named(shards: Served) -> None:
    with pytest.raises(
        DataError, match=r"The shard http.*/7\.tar cannot be fetched: the server answered 404"
    ):
        open_photos(f"{shards.address}/{{0,7}}.tar")
    assert in_the_cache() == []


def test_a_full_disk_is_reported_before_the_first_byte(
    shards: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("minigpt4.core.download.sources.shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(
        DataError, match=r"The shards of '0\.tar' cannot be fetched: .*10 bytes free and 0\.0 MB|102"
    ):
        open_photos(f"{shards.address}/0.tar")
    assert [method for method, _, _ in shards.requests] == ["HEAD"]
