"""Writes the generated pages, and the table of shell completion: `python docs/make.py`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from completion_table import completion_table
from measured import filled, form_table, objects_tables, record_of
from reference import keys_page, settings_page
from reproducing import ablations_page, reproducing_page

from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.tui.cli.completion import table

DOCS = Path(__file__).parent
CARD = DOCS.parent / "core" / "bundles" / "MINI.md"


def write(path: Path, content: str) -> None:
    """Write a page and say so."""
    path.write_text(content, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        # Themes and models of the person who runs this do not belong in the pages.
        os.environ[HOME_VARIABLE] = empty
        write(DOCS / "settings.md", settings_page())
        write(DOCS / "keys.md", keys_page())
        write(DOCS / "reproducing.md", reproducing_page())
        if record_of("ablations") is not None:
            write(DOCS / "ablations.md", ablations_page())
        card = filled(CARD.read_text(encoding="utf-8"), "objects", objects_tables())
        write(CARD, filled(card, "form", form_table()))
        evaluation = DOCS / "evaluation.md"
        write(evaluation, filled(evaluation.read_text(encoding="utf-8"), "form", form_table()))
    write(Path(table.TABLE), completion_table())
