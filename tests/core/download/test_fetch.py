"""Fetching from a web server: resumed, checked, locked; real processes, small files."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.download.fetch import (
    FetchProgress,
    ensure,
    is_present,
    is_whole,
    missing,
    path_of,
    plan_fetch,
)
from minigpt4.core.errors import FetchError

LANGUAGE = random.Random(2).randbytes(3_000_000)
"""As conftest.py serves it."""

Served = Any
Small = Callable[..., Bundle]


def language_path(bundle: Bundle) -> Path:
    return path_of(bundle.language.file, bundle)


def visible_and_hidden(bundle: Bundle) -> list[str]:
    """What lies in the bundle's folder, locks left out."""
    folder = language_path(bundle).parent
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


CLOSED_PORT = "http://127.0.0.1:9/language.bin"
ENSURE = "from minigpt4.core.download.fetch import *; from minigpt4.core.bundles.bundle import *; "


# -- url ------------------------------------------------------------------------------------------


def test_a_bundle_is_fetched_whole_and_reports_progress(url_bundle: Bundle) -> None:
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


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_that_another_bundle_has_is_not_fetched_again(
    url_bundle: Bundle, served: Served, write_bundle: Any, vision_file: Path, damaged: bool
) -> None:
    ensure(url_bundle)
    write_bundle(
        "other",
        vision=vision_file.read_bytes(),
        vision_sources=[{"kind": "path", "path": str(vision_file)}],
        language=LANGUAGE,
        language_sources=[{"kind": "url", "url": served.url}],
    )
    other = load_bundle("other")
    if damaged:
        language_path(url_bundle).write_bytes(bytes(len(LANGUAGE)))
    else:
        assert plan_fetch(other).bytes == 0
    ensure(other)
    assert language_path(other).read_bytes() == LANGUAGE
    assert served.ranges == [None] * (1 + damaged)


def test_existing_files_are_not_requested_again(url_bundle: Bundle, served: Served) -> None:
    ensure(url_bundle)
    ensure(url_bundle, verify=True)
    assert served.ranges == [None]


def test_a_dropped_connection_is_taken_up_where_it_broke(url_bundle: Bundle, served: Served) -> None:
    served.breaks_after = [1_200_000, 700_000]
    ensure(url_bundle)
    assert served.ranges == [None, "bytes=1200000-", "bytes=1900000-"]
    assert served.sent == len(LANGUAGE)
    assert is_whole(url_bundle.language.file, url_bundle)


def test_a_later_run_resumes_the_partial_download(url_bundle: Bundle, served: Served) -> None:
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


def test_a_damaged_partial_download_is_fetched_again_from_the_start(
    url_bundle: Bundle, served: Served
) -> None:
    served.breaks_after = [1_000_000, 0]
    with pytest.raises(FetchError):
        ensure(url_bundle)
    (half,) = language_path(url_bundle).parent.glob("*.part")
    half.write_bytes(bytes(1_000_000))
    notices: list[str] = []
    ensure(url_bundle, notice=notices.append)
    assert len(notices) == 1
    assert "The partial download of language.bin was damaged" in notices[0]
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


def test_a_missing_page_is_reported_with_its_code(vision_file: Path, served: Served, small: Small) -> None:
    served.content = b""
    bundle = small({"kind": "url", "url": served.url})
    with pytest.raises(FetchError, match="the server answered 416"):
        ensure(bundle)


def test_no_network_is_one_sentence(small: Small) -> None:
    bundle = small({"kind": "url", "url": CLOSED_PORT})
    with pytest.raises(
        FetchError, match=r"no connection \(Connection refused\); check the network"
    ) as caught:
        ensure(bundle)
    assert "\n" not in str(caught.value)


def test_sources_are_tried_in_order_and_each_reason_is_reported(
    vision_file: Path, served: Served, small: Small, tmp_path: Path
) -> None:
    sources = [{"kind": "url", "url": CLOSED_PORT}, {"kind": "path", "path": str(tmp_path / "none.bin")}]
    bundle = small(*sources)
    with pytest.raises(FetchError) as caught:
        ensure(bundle)
    text = str(caught.value)
    assert text.index(f"{CLOSED_PORT}: no connection") < text.index("none.bin: there is no such file")
    bundle = small(*sources, {"kind": "url", "url": served.url})
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
        FetchError, match=r"vision file.bin.* cannot be written: Not a directory; fix that, or"
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
