"""`python -m minigpt4.tui`: the command `minigpt4` without the console script."""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> None:
    """Remove the working folder from the module path, then run the command line.

    `python -m` puts that folder first, so that a `numpy.py` in it would shadow the real one; until it is
    removed only the standard library is imported.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:
        # It was deleted: nothing can be imported from it, and the command line reports it.
        here = None
    if here and not sys.flags.safe_path and sys.path and Path(sys.path[0]).absolute() == here:
        working_folder = sys.path.pop(0)
        if Path(working_folder).absolute() == Path(__file__).absolute().parents[2]:
            sys.path.append(working_folder)
    from minigpt4.tui.cli import main

    main()


if __name__ == "__main__":
    run()
