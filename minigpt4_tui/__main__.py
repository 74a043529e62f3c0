"""`python -m minigpt4.tui`: the command `minigpt4`, for where no console script is installed."""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> None:
    """Take the working folder off the module path, then be the console script.

    `python -m` puts that folder first, where a `numpy.py` of the user's own would be taken
    for the real one; so nothing but the standard library is imported before.
    """
    if not sys.flags.safe_path and sys.path and Path(sys.path[0]).absolute() == Path.cwd():
        working_folder = sys.path.pop(0)
        if Path(working_folder).absolute() == Path(__file__).absolute().parents[2]:
            sys.path.append(working_folder)
    from minigpt4.tui.cli import main

    main()


if __name__ == "__main__":
    run()
