"""An image is read from the clipboard by the desktop's own tool, or an error says why not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt4.tui.images import clipboard
from minigpt4.tui.images.clipboard import ClipboardError, clipboard_image, clipboard_text

Install = Callable[[str, str], None]
PNG = b"\x89PNG\r\n\x1a\nnot really\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a tool of that name and shell text on an otherwise empty path, on a machine without a desktop."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("WAYLAND_DISPLAY", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")

    def put(name: str, text: str) -> None:
        tool = folder / name
        tool.write_text(f"#!/bin/sh\n{text}\n")
        tool.chmod(0o755)

    return put


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / "My photo.png"
    path.write_bytes(PNG)
    return path


def error_of(read: Callable[[], object]) -> str:
    with pytest.raises(ClipboardError) as raised:
        read()
    return str(raised.value)


def test_the_image_is_read_on_wayland(
    install: Install, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    monkeypatch.setenv("DISPLAY", ":0")
    install(
        "wl-paste",
        f'case "$*" in --list-types) printf "text/html\\nimage/jpeg\\nimage/png\\n";; '
        f'"--no-newline --type image/png") exec /bin/cat "{image_file}";; *) exit 1;; esac',
    )
    assert clipboard_image() == PNG


def test_it_is_read_on_x11(install: Install, image_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    install(
        "xclip",
        f'case "$*" in *TARGETS*) printf "TARGETS\\nimage/bmp\\n";; '
        f'"-selection clipboard -o -t image/bmp") exec /bin/cat "{image_file}";; *) exit 1;; esac',
    )
    assert clipboard_image() == PNG


def test_a_copied_file_is_read(install: Install, image_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    install(
        "xclip",
        'case "$*" in *TARGETS*) printf "TARGETS\\ntext/uri-list\\n";; '
        f'*uri-list*) printf "file:///letter.txt\\r\\n{image_file.as_uri().replace("%", "%%")}\\r\\n";; esac',
    )
    assert clipboard_image() == PNG
    image_file.unlink()
    assert "My photo.png cannot be read" in error_of(clipboard_image)


@pytest.mark.parametrize("answer", ['printf "text/plain\\n"', "exit 1", ":"])
def test_a_clipboard_without_an_image_is_an_error(
    install: Install, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    install("wl-paste", answer)
    assert "holds no picture" in error_of(clipboard_image)


@pytest.mark.parametrize(
    ("variable", "package"), [("WAYLAND_DISPLAY", "install wl-clipboard"), ("DISPLAY", "install xclip")]
)
def test_a_missing_tool_is_named_with_its_package(
    install: Install, monkeypatch: pytest.MonkeyPatch, variable: str, package: str
) -> None:
    monkeypatch.setenv(variable, "0")
    assert package in error_of(clipboard_image)


def test_without_a_desktop_there_is_no_clipboard(install: Install) -> None:
    assert "There is no clipboard here" in error_of(clipboard_image)
    assert "There is no clipboard here" in error_of(clipboard_text)


def test_a_program_that_never_answers_times_out(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    monkeypatch.setattr(clipboard, "WAIT_S", 0.05)
    install("wl-paste", "exec /bin/sleep 60")
    assert "did not answer" in error_of(clipboard_image)


def test_macos_needs_no_other_tool(
    install: Install, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    install("osascript", f"echo '«data PNGf{PNG.hex().upper()}»'")
    assert clipboard_image() == PNG
    install("osascript", "echo 'execution error: no picture' >&2; exit 1")
    assert "holds no picture" in error_of(clipboard_image)
    install("pngpaste", f'exec /bin/cat "{image_file}"')
    assert clipboard_image() == PNG


def test_text_is_read(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    install("wl-paste", 'case "$*" in --list-types) echo text/plain;; *) printf "Grüße";; esac')
    assert clipboard_text() == "Grüße"
    install("wl-paste", 'case "$*" in --list-types) echo image/png;; *) exit 1;; esac')
    assert clipboard_text() == ""
