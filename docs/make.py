"""Writes the generated pages, and the table of shell completion: `python docs/make.py`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from completion_table import completion_table
from reference import keys_page, settings_page

from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.tui.cli.completion import table

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        # Themes of the person who runs this do not belong in the page.
        os.environ[HOME_VARIABLE] = empty
        for name, page in (("settings", settings_page()), ("keys", keys_page())):
            path = Path(__file__).with_name(f"{name}.md")
            path.write_text(page, encoding="utf-8")
            print(path)
    Path(table.TABLE).write_text(completion_table(), encoding="utf-8")
    print(table.TABLE)
