"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name that is spelled most like `name`, ignoring case; None if none comes close."""
    import difflib  # only after a mistake, so not at start-up

    spelled = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=cutoff)
    return spelled[found[0]] if found else None


def suggestion(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about an unknown name: the nearest one, else `otherwise` or all of them."""
    known = list(known)
    near = nearest(name, known)
    verb = "is" if len(known) == 1 else "are"
    return f"did you mean '{near}'?" if near else otherwise or f"there {verb} {', '.join(known)}."
