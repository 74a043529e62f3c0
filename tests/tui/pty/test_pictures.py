"""Pictures in the order in which they were given, and with the question that was asked about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from minigpt4.tui.history.store import Store

Start = Any

QUESTION = "What is in this picture?"


def asked(kept: Store) -> tuple[str, list[str]] | None:
    """The only question, and the names of its pictures; None until it is in the history."""
    path = [message for conversation in kept.conversations(2) for message in kept.path(conversation.id)]
    return (path[0].text, [picture.name for picture in path[0].pictures]) if path else None


def test_a_large_picture_before_small_ones_stays_the_first(start: Start, kept: Store, tmp_path: Path) -> None:
    Image.effect_noise((5000, 4000), 90).save(tmp_path / "large.png")
    for name in ("b.png", "c.png"):
        Image.new("RGB", (20, 10), "red").save(tmp_path / name)
    names = ["large.png", "b.png", "c.png"]
    terminal = start(*(tmp_path / name for name in names), "--greedy", "--max-tokens", "4")
    terminal.until("large.png")
    terminal.send(QUESTION + "\r")
    terminal.until(lambda: asked(kept) == (QUESTION, names))


def test_a_question_that_is_sent_at_once_goes_with_the_picture_dropped_before(
    start: Start, kept: Store, tmp_path: Path
) -> None:
    picture = tmp_path / "my photo.png"
    Image.effect_noise((4000, 3000), 90).save(picture)
    terminal = start("--greedy", "--max-tokens", "4")
    terminal.until("● mini")
    terminal.drop(f"'{picture}'")
    terminal.send(QUESTION + "\r")
    terminal.until(lambda: asked(kept) == (QUESTION, ["my photo.png"]))


def test_a_path_typed_in_the_question_is_its_picture(start: Start, kept: Store, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "cat.png")
    terminal = start("--greedy", "--max-tokens", "4", size=(120, 40))
    terminal.until("● mini")
    terminal.send(f"{tmp_path / 'cat.png'} {QUESTION}\r")
    terminal.until(lambda: asked(kept) == (QUESTION, ["cat.png"]))
