"""Fetching files whose size and checksum the manifest does not state."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle, write_manifest
from minigpt4.core.bundles.source import File, Source
from minigpt4.core.download.fetch import (
    FetchPlan,
    FetchProgress,
    digest_of,
    ensure,
    is_present,
    is_whole,
    known_bytes,
    missing,
    path_of,
)
from minigpt4.core.errors import FetchError
from minigpt4.core.storage.paths import config_home

CONTENT = random.Random(3).randbytes(2_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CLOSED_PORT = "http://127.0.0.1:9/vit.pth"


@dataclass
class Served:
    """A web server that reports size and ETag, and the requests it received."""

    content: bytes = CONTENT
    etag: str = '"one"'
    kind: str = "application/octet-stream"
    answers_head: bool = True
    reports_size: bool = True
    breaks_after: list[int] = field(default_factory=list)
    """Bytes after which to drop the connection, an entry a whole request; afterwards none is dropped."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""
    hub: str = ""


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as state:
        yield state


@contextmanager
def serving() -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            state.asked.append(("HEAD", None))
            if not state.answers_head:
                self.send_error(405)
                return
            self.answer(0, len(state.content), is_range=False)

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(("GET", wanted))
            first, _, last = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(state.content)
            self.answer(start, end, is_range=wanted is not None)
            body = state.content[start:end]
            if state.breaks_after and not last:
                body = body[: state.breaks_after.pop(0)]
            self.wfile.write(body)

        def answer(self, start: int, end: int, *, is_range: bool) -> None:
            self.send_response(206 if is_range else 200)
            self.send_header("ETag", state.etag)
            self.send_header("X-Repo-Commit", "c0ffee" + "0" * 34)
            self.send_header("Content-Type", state.kind)
            if is_range and state.reports_size:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(state.content)}")
            if state.reports_size:
                self.send_header("Content-Length", str(end - start))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.hub = f"http://127.0.0.1:{server.server_port}"
    state.url = f"{state.hub}/vit.pth"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def bundle_of(*sources: Source, **known: int | str) -> Bundle:
    """A bundle whose vision tower is the only file, with nothing known of it but `known`."""
    mini = load_bundle("mini-without-detector")
    file = replace(File("vit.pth", None, None, sources), **known)  # type: ignore[arg-type]
    folder = config_home() / "llama"
    bundle = replace(
        mini,
        name="unknown",
        vision=replace(mini.vision, file=file),
        language=replace(mini.language, files=(), folder=folder),
    )
    write_manifest(bundle, config_home() / "bundles" / "unknown.toml")
    return load_bundle("unknown")


def url(address: str) -> Source:
    return Source(kind="url", url=address)


def place(bundle: Bundle) -> Path:
    return path_of(bundle.vision.file, bundle)


def left(bundle: Bundle) -> list[str]:
    return sorted(path.name for path in place(bundle).parent.iterdir() if path.suffix != ".lock")


def test_the_size_is_requested_before_the_first_byte_and_the_checksum_is_noted(served: Served) -> None:
    bundle = bundle_of(url(served.url))
    file = bundle.vision.file
    assert known_bytes(file, bundle) is None
    assert digest_of(file, bundle) is None
    plans: list[FetchPlan] = []
    seen: list[FetchProgress] = []
    ensure(bundle, begin=plans.append, progress=seen.append)
    assert [(plan.files, plan.bytes) for plan in plans] == [(1, len(CONTENT))]
    assert plans[0].free > len(CONTENT)
    assert (seen[-1].done, seen[-1].total) == (len(CONTENT), len(CONTENT))
    assert served.asked == [("HEAD", None), ("GET", None)]
    assert left(bundle) == [".vit.pth.received", "vit.pth"]
    assert is_whole(file, bundle)
    assert (known_bytes(file, bundle), digest_of(file, bundle)) == (len(CONTENT), SHA256)


def test_a_truncated_or_changed_file_is_known_by_the_note(served: Served) -> None:
    bundle = bundle_of(url(served.url))
    ensure(bundle)
    place(bundle).write_bytes(CONTENT[:-1])
    assert missing(bundle) == bundle.files
    notices: list[str] = []
    ensure(bundle, notice=notices.append)
    place(bundle).write_bytes(b"?" + CONTENT[1:])
    ensure(bundle, notice=notices.append, verify=True)
    assert [notice.partition("vit.pth ")[2] for notice in notices] == [
        f"has {len(CONTENT) - 1} of {len(CONTENT)} bytes; it is fetched again.",
        "has the wrong SHA-256; it is fetched again.",
    ]
    assert place(bundle).read_bytes() == CONTENT


def test_a_server_without_head_is_asked_for_one_byte(served: Served) -> None:
    served.answers_head = False
    bundle = bundle_of(url(served.url))
    ensure(bundle)
    assert served.asked == [("HEAD", None), ("GET", "bytes=0-0"), ("GET", None)]
    assert is_whole(bundle.vision.file, bundle)


def test_a_web_page_in_the_files_place_is_refused(served: Served) -> None:
    served.kind = "text/html; charset=utf-8"
    bundle = bundle_of(url(served.url))
    with pytest.raises(FetchError, match="sent a web page instead of the file; open it in a browser"):
        ensure(bundle)
    assert not place(bundle).parent.exists()


def test_a_server_that_does_not_report_the_size_is_refused(served: Served) -> None:
    served.reports_size = False
    with pytest.raises(FetchError, match="the server does not report the file's size"):
        ensure(bundle_of(url(served.url)))


def test_an_empty_file_is_no_model(served: Served) -> None:
    served.content = b""
    with pytest.raises(FetchError, match="the file there is empty"):
        ensure(bundle_of(url(served.url)))


def test_the_next_source_is_asked_if_one_does_not_answer(served: Served) -> None:
    bundle = bundle_of(url(CLOSED_PORT), url(served.url))
    ensure(bundle)
    assert is_whole(bundle.vision.file, bundle)


def test_no_source_that_answers_is_one_sentence() -> None:
    with pytest.raises(FetchError, match=rf"Tried {CLOSED_PORT}: no connection .*; check the network\.$"):
        ensure(bundle_of(url(CLOSED_PORT)))


def test_too_small_a_disk_is_refused_before_the_first_byte(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of(url(served.url))
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FetchError, match=r"has 1.0 MB free and 2.5 MB are needed; make room"):
        ensure(bundle)
    assert served.asked == [("HEAD", None)]
    assert not place(bundle).parent.exists()


def test_a_later_run_resumes_where_the_first_broke(served: Served) -> None:
    served.breaks_after = [1_000_000, 0]
    bundle = bundle_of(url(served.url))
    with pytest.raises(FetchError, match="broke after 1000000 of 2500000 bytes"):
        ensure(bundle)
    ensure(bundle)
    assert served.asked[-1] == ("GET", "bytes=1000000-")
    assert place(bundle).read_bytes() == CONTENT
    assert left(bundle) == [".vit.pth.received", "vit.pth"]


def test_a_partial_download_is_not_resumed_with_other_content(served: Served) -> None:
    """The same address and size, another content: only the ETag shows it."""
    served.breaks_after = [1_000_000, 0]
    bundle = bundle_of(url(served.url))
    with pytest.raises(FetchError):
        ensure(bundle)
    served.content, served.etag = CONTENT[::-1], '"two"'
    ensure(bundle)
    assert place(bundle).read_bytes() == CONTENT[::-1]
    assert left(bundle) == [".vit.pth.received", "vit.pth"]


def test_two_sources_of_unknown_content_are_not_mixed(served: Served) -> None:
    with serving() as other:
        other.content = CONTENT[::-1]
        other.breaks_after = [1_000_000, 0]
        bundle = bundle_of(url(other.url), url(served.url))
        ensure(bundle)
    assert place(bundle).read_bytes() == CONTENT


def test_a_known_size_is_compared_with_the_servers(served: Served) -> None:
    with pytest.raises(FetchError, match="it has 2500000 bytes, not the expected 7"):
        ensure(bundle_of(url(served.url), bytes=7))


def test_a_known_checksum_is_enough_to_refuse_something_else(served: Served) -> None:
    with pytest.raises(FetchError, match=r"its SHA-256 is [0-9a-f]{64}, not the expected 0000"):
        ensure(bundle_of(url(served.url), sha256="0" * 64))


@pytest.mark.parametrize(("etag", "is_taken"), [(SHA256, True), ("0" * 64, False), ("5ma11", True)])
def test_the_hubs_own_checksum_counts(served: Served, etag: str, is_taken: bool, tmp_path: Path) -> None:
    served.etag = f'"{etag}"'
    bundle = bundle_of(
        Source(kind="hub", repo="a/space", repo_type="space", revision="main", filename="vit.pth")
    )
    settings = {"HF_ENDPOINT": served.hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    code = (
        "from minigpt4.core.download.fetch import *; from minigpt4.core.bundles.bundle import *; "
        "ensure(load_bundle('unknown'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == is_taken, done.stderr
    assert is_present(bundle.vision.file, bundle) == is_taken
    if not is_taken:
        assert "its SHA-256 is" in done.stderr


# -- what the user has already --------------------------------------------------------------------


def test_a_file_put_there_by_hand_counts_and_is_noted_when_asked_for(served: Served) -> None:
    bundle = bundle_of(url(served.url))
    place(bundle).parent.mkdir(parents=True)
    place(bundle).write_bytes(b"mine")
    ensure(bundle)
    assert served.asked == []
    assert digest_of(bundle.vision.file, bundle) == hashlib.sha256(b"mine").hexdigest()
    assert left(bundle) == [".vit.pth.received", "vit.pth"]
    assert is_whole(bundle.vision.file, bundle)


def test_an_invalid_note_is_written_again(served: Served) -> None:
    bundle = bundle_of(url(served.url))
    ensure(bundle)
    place(bundle).with_name(".vit.pth.received").write_text("{}", encoding="utf-8")
    assert digest_of(bundle.vision.file, bundle) == SHA256
    assert is_whole(bundle.vision.file, bundle)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_a_file_of_unknown_size_is_found_by_its_name(tmp_path: Path, make: Callable[[Path], None]) -> None:
    given = tmp_path / ("downloads" if make is Path.mkdir else "vit.pth")
    make(given)
    (given / "vit.pth" if given.is_dir() else given).write_bytes(CONTENT)
    bundle = bundle_of(url(CLOSED_PORT))
    ensure(bundle, local=given)
    assert place(bundle).read_bytes() == CONTENT


def test_a_file_without_sources_cannot_be_fetched() -> None:
    with pytest.raises(
        FetchError, match=r"could not be fetched\. It was made on this machine; make it again"
    ):
        ensure(bundle_of())


def test_only_the_files_that_are_needed_are_fetched(served: Served) -> None:
    bundle = bundle_of(url(served.url))
    ensure(bundle, files=())
    assert served.asked == []
    ensure(bundle, files=bundle.picture_files)
    assert is_whole(bundle.vision.file, bundle)
