"""How much an engine's memory grows over many turns and pictures.

    python benchmarks/growth.py PHOTOS [--bundle mini] [--backend llamacpp] [--turns 200] [--pictures 100]

PHOTOS is a folder of pictures, or a .tar of them (a webdataset shard). After a warm-up of 20 turns about
10 other pictures, each picture is encoded anew (no disk cache) and asked about, and conversations continue
until all turns are done; the context is trimmed on the way. Prints the resident memory after the warm-up,
and its growth every tenth of the turns. The goal of the program is less than 20 MB.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from minigpt4.core.engine import Engine
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.types import ImageEmbedding, Sampling

WARM_UP = (20, 10)
"""Turns and pictures."""

ANSWER = 16
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
QUESTIONS = ("What is this?", "What colour is it?", "What else is there?", "Where is it?")


def pictures_of(place: Path) -> Iterator[bytes]:
    """The bytes of the pictures in a folder or a shard, in order."""
    if place.is_dir():
        yield from (path.read_bytes() for path in sorted(place.iterdir()) if _is_picture(path.name))
        return
    with tarfile.open(place) as shard:
        for member in shard:
            if _is_picture(member.name) and (file := shard.extractfile(member)) is not None:
                yield file.read()


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURE_SUFFIXES)


def resident_mb() -> float:
    """This process's anonymous resident memory, without the pages of mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("This needs Linux: /proc/self/status states no RssAnon.")


def talk(engine: Engine, pictures: Iterator[bytes], count: int, turns: int) -> Iterator[int]:
    """Take `turns` turns about `count` pictures; yields after every turn."""
    conversation: list[Message] = []
    asked = itertools.cycle(QUESTIONS)
    begins = {round(place * turns / count) for place in range(count)}
    for turn in range(turns):
        images: tuple[ImageEmbedding, ...] = ()
        if turn in begins:
            # Two of three pictures continue the conversation, so that some outgrow the context.
            conversation = conversation if turn % 3 else []
            images = (engine.look(next(pictures)),)
        conversation.append(User(next(asked), images=images))
        reply = engine.reply(conversation, Sampling(temperature=0.0, max_tokens=ANSWER))
        answer = "".join(piece.text for piece in reply)
        conversation.append(Assistant(answer))
        yield turn + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--backend", default="llamacpp")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=100)
    options = parser.parse_args()
    pictures = pictures_of(options.photos)
    chosen = EngineOptions(options.bundle, backend=options.backend, device="cpu", cache=False)
    with Engine.from_options(chosen) as engine:
        for _ in talk(engine, pictures, WARM_UP[1], WARM_UP[0]):
            pass
        start = resident_mb()
        print(f"process {os.getpid()}: {start:.1f} MB after the warm-up")
        for turn in talk(engine, pictures, options.pictures, options.turns):
            if turn % max(options.turns // 10, 1) == 0:
                print(f"turn {turn:>4}: {resident_mb() - start:+.1f} MB", flush=True)


if __name__ == "__main__":
    main()
