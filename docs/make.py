"""Writes the pages that are made from the code: `python docs/make.py`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from minigpt4.core.paths import HOME_VARIABLE
from minigpt4.tui.cli.reference import keys_page, settings_page

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        # The themes of whoever runs this are nobody else's.
        os.environ[HOME_VARIABLE] = empty
        for name, page in (("settings", settings_page()), ("keys", keys_page())):
            path = Path(__file__).with_name(f"{name}.md")
            path.write_text(page, encoding="utf-8")
            print(path)
