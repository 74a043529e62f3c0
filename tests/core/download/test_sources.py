"""Downloading from one source, and its progress while another program writes in the folder."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.core.download.conftest import Served

from minigpt4.core.bundles.source import Source
from minigpt4.core.download.sources import SourceError, bring, bytes_so_far


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


def test_a_file_is_unpacked_from_an_archive_while_it_arrives(served: Served, tmp_path: Path) -> None:
    body = os.urandom(1000)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (("model/other.pb", b"1"), ("model/graph.pb", body)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    served.content = packed.getvalue()
    part, done = tmp_path / "part", list[int]()
    source = Source(kind="url", url=served.url, member="model/graph.pb")
    bring(source, len(body), part, done.append)
    assert part.read_bytes() == body and done[-1] == len(body)
    with pytest.raises(SourceError, match=r"holds no file model/none\.pb"):
        bring(replace(source, member="model/none.pb"), 1, part, done.append)
    with pytest.raises(SourceError, match="longer than the expected 10 bytes"):
        bring(source, 10, part, done.append)
    served.content = served.content[:300]
    with pytest.raises(SourceError, match="damaged or cut off"):
        bring(source, len(body), part, done.append)
    assert not part.exists()
