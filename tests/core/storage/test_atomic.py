"""Files that are written atomically."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt4.core.storage.atomic import replacing


def test_a_folder_that_cannot_be_written_is_told_with_the_name_that_was_given() -> None:
    with pytest.raises(OSError) as raised, replacing(Path("/proc/result.json")):  # also root may not
        pass
    assert raised.value.filename == "/proc/result.json"
