"""Results on stdout that hold untrusted names: exact for programs, harmless in a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from minigpt4.tui.terminal.messages import shown_name
from minigpt4.tui.terminal.sanitize import sanitize

_UNUSUAL = re.compile(r"[^\n\x20-\x7e]")


def print_path(path: Path) -> None:
    """Print a path: byte for byte, as programs need it; in a terminal without its control codes."""
    if sys.stdout.isatty():
        print(shown_name(path))
        return
    # Names need not be UTF-8, and print() would write a question mark for what it cannot encode.
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + b"\n")
    sys.stdout.buffer.flush()


def print_answer(text: str) -> None:
    """Print a part of an answer: exact for programs; in a terminal without control codes."""
    print(sanitize(text) if sys.stdout.isatty() else text, end="", flush=True)


def json_text(value: object, indent: int | None = None) -> str:
    """The value as JSON whose control codes are escaped: see `escaped_json`."""
    return escaped_json(json.dumps(value, indent=indent, ensure_ascii=False))


def escaped_json(text: str) -> str:
    """JSON with every letter that does not print (control codes, marks of direction) as `\\uXXXX`.

    Bytes of a name that are not UTF-8 keep their surrogates that way, too.
    """
    return _UNUSUAL.sub(
        lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text
    )
