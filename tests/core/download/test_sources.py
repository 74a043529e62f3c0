"""The progress of a download, read while another program writes in its folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt4.core.download.sources import bytes_so_far


def test_folders_that_vanish_while_they_are_measured_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / ".model.bin"
    unpacked = tmp_path / f"{part.name}.pip" / "tmp" / "pip-unpack"
    unpacked.mkdir(parents=True)
    (unpacked / "model.whl").write_bytes(b"12345")
    assert bytes_so_far(part) == 5
    scan = os.scandir

    def scan_late(folder: str | Path) -> Iterator[os.DirEntry[str]]:
        # What pip does between the moment a folder is listed and the moment it is opened.
        if Path(folder) == unpacked:
            raise FileNotFoundError(2, "No such file or directory", str(folder))
        return scan(folder)  # type: ignore[return-value]

    monkeypatch.setattr(os, "scandir", scan_late)
    assert bytes_so_far(part) == 0
