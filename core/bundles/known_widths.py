"""Which models of MiniGPT-4's family a width belongs to, for saying what a person confused."""

from __future__ import annotations

LLAMA_SIZES = {4096: "the 7B model", 5120: "the 13B model"}
"""Which language model an embedding's width belongs to."""

TOWER_KINDS = {768: "a Q-Former", 5632: "no Q-Former"}
"""What the released projections read from, by width: the Q-Former, or four joined patches of ViT-G."""


def confused_sizes(outputs: int, width: int) -> str:
    """What is wrong where a projection meets the other size of LLaMA; else nothing."""
    if outputs == width or not {outputs, width} <= set(LLAMA_SIZES):
        return ""
    return f"this projection is for {LLAMA_SIZES[outputs]} and the bundle has {LLAMA_SIZES[width]}"


def confused_towers(inputs: int, width: int) -> str:
    """What is wrong where a projection was trained with a Q-Former and none is there, or the reverse."""
    if inputs == width or not {inputs, width} <= set(TOWER_KINDS):
        return ""
    return f"this projection was trained with {TOWER_KINDS[inputs]} and the bundle has {TOWER_KINDS[width]}"
