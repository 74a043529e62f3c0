"""One of several processes of an evaluation, for test_processes.py: `python one_process.py ARGUMENTS`.

Its engine answers with the name of the picture, and fails at the one whose name is in FAILS_AT.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigpt4.core.errors import BackendError
from minigpt4.core.pixels import Picture
from minigpt4.core.types import ImageEmbedding
from minigpt4.tui.cli import main, options


class NamingReply:
    finish, answer_tokens = "stop", 3

    def __init__(self, text: str) -> None:
        self.read = lambda: text


class NamingEngine:
    def look(self, source: Picture) -> ImageEmbedding:
        return ImageEmbedding(np.zeros((1, 4), np.float32), key=source.name)

    def reply(self, conversation: Sequence[Any], _sampling: object) -> NamingReply:
        name = conversation[0].images[0].key
        if name == os.environ.get("FAILS_AT"):
            raise BackendError(f"The model has run out of memory at {name}.")
        with (Path(os.environ["ASKED"]) / os.environ["RANK"]).open("a") as file:
            file.write(f"{name}\n")
        return NamingReply(f"A {name.removesuffix('.jpg')} sleeps.")

    def __enter__(self) -> NamingEngine:
        return self

    def __exit__(self, *_: object) -> None:
        return None


if __name__ == "__main__":
    options.load_engine = lambda _options: NamingEngine()  # type: ignore[assignment,return-value]
    main(sys.argv[1:])
