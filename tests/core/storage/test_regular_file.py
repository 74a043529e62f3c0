"""Only files are read: what would block or never end is refused at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from minigpt4.core.storage.regular_file import read_regular_file


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\r\nb")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular_file(tmp_path / "link") == b"a\r\nb"


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    # The path of a socket may have 107 bytes only.
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name, what in (("fifo", "a FIFO"), ("zero", "a device"), ("socket", "a socket")):
            with pytest.raises(OSError, match=f"it is {what}, not a file"):
                read_regular_file(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_regular_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_regular_file(tmp_path / "none")
