"""A run as text: its state, the time left, and the figures of its last steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.download.sources import size_text
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from minigpt4.train.run.log import RunLog

SILENT_S = 300.0
"""Seconds without an event after which a running run counts as silent; validation takes a while."""

NAME_WIDTH = 24


def run_names(folders: Sequence[Path]) -> list[str]:
    """Each run's folder name; its path if two runs have the same name."""
    plain = [folder.resolve().name or str(folder) for folder in folders]
    return [
        sanitize_line(name if plain.count(name) == 1 else str(folder), NAME_WIDTH)
        for name, folder in zip(plain, folders, strict=True)
    ]


def time_text(seconds: float) -> str:
    """A duration in its largest unit, and the next one unless that is 0."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def state_text(log: RunLog, now: float) -> str:
    """A run's state at the Unix time `now`."""
    ago = max(now - log.written_at, 0.0) if log.written_at is not None else None
    match log.state:
        case "running" if ago is not None and ago > SILENT_S:
            return f"running, silent for {time_text(ago)}"
        case "running" if (left := log.seconds_left) is not None:
            return f"running, {time_text(left)} left"
        case "stopped" | "finished" if ago is not None:
            return f"{log.state} {time_text(ago)} ago"
        case state:
            return state


def figures(log: RunLog, now: float) -> list[str]:
    """State and newest figures, the most important first; a figure without a value yet is empty."""
    from minigpt4.train.run.log import RECENT

    steps = f"{log.step:,}/{log.summary.steps:,}" if log.summary.steps else f"{log.step:,}"
    loss, speed = log.loss.recent(RECENT), log.samples_per_s.recent(RECENT)
    if log.last is not None and log.last.loss != log.last.loss:
        loss = log.last.loss
    measured = log.val_loss.recent(1)
    return [
        state_text(log, now),
        f"step {steps}",
        f"loss {loss:.3f}" if loss is not None else "",
        f"val {measured:.3f}" if measured is not None else "",
        f"{speed:.1f} photos/s" if speed is not None else "",
    ]


def details(log: RunLog) -> list[str]:
    """Further figures of the last step that have a value."""
    last, found = log.last, []
    if last is not None:
        found += [f"learning rate {last.lr:.2e}", f"gradient {last.grad_norm:.3g}"]
        found += [f"MFU {last.mfu:.0%}"] if last.mfu is not None else []
        found += [f"waited for photos {last.data_wait:.0%}"] if last.data_wait >= 0.005 else []
        found += [size_text(last.memory)] if last.memory else []
    if log.skipped:
        found.append(f"{log.skipped} {'photo' if log.skipped == 1 else 'photos'} skipped")
    if log.note:
        found.append(sanitize_line(log.note, 200))
    return found


def summary(name: str, log: RunLog, now: float) -> str:
    """A run on one line, for output without a screen."""
    return f"{name}: {', '.join(filter(None, [*figures(log, now), *details(log)]))}"
