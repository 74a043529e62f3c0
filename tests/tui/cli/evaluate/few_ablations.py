"""`minigpt4` whose table of ablations is another: `python few_ablations.py TABLES ARGUMENTS`."""

from __future__ import annotations

import sys
from pathlib import Path

from minigpt4.train.ablations import plan
from minigpt4.tui.cli import main

if __name__ == "__main__":
    plan.TABLES = Path(sys.argv[1])
    main(sys.argv[2:])
