"""Whether the folder of this process still exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt4.core.storage.working_folder import has_working_folder


def test_a_folder_that_was_deleted_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    assert has_working_folder()
    (tmp_path / "gone").rmdir()
    assert not has_working_folder()
    (tmp_path / "gone").mkdir()  # another one of that name
    assert not has_working_folder()
