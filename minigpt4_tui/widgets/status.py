"""The line under the composer: what the engine does, how quick it is, and how full its context is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from textual.app import RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.timer import Timer
from textual.widget import Widget

from minigpt4.tui.conversation.engine_status import EngineStatus
from minigpt4.tui.terminal.sanitize import sanitize_line

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
BAR_CELLS = 10
SPEED_S = 0.25
"""Seconds between updates of the shown speed during an answer, so that it can be read."""

NEARLY_FULL = 0.85
"""Fraction of the context above which a warning says that messages will be dropped soon."""

PHASES = {"encode": "looking at the picture", "prefill": "thinking", "decode": "writing"}


@dataclass(frozen=True)
class ContextUsage:
    """Tokens in the context: counted ones, an estimate for the text being typed, and the limit."""

    positions: int = 0
    pending: int = 0
    context: int = 0
    dropped: int = 0

    @property
    def fraction(self) -> float:
        """The fraction of the context in use, 1 at most."""
        return min((self.positions + self.pending) / self.context, 1.0) if self.context else 0.0

    @property
    def warning(self) -> str:
        """A few words if the context is nearly full or exceeded."""
        if self.context and self.positions + self.pending > self.context:
            return "too long for the context"
        if self.dropped:
            one = self.dropped == 1
            return "oldest message left out" if one else f"{self.dropped} oldest messages left out"
        return "context nearly full" if self.fraction >= NEARLY_FULL else ""

    @property
    def advice(self) -> str:
        """What to do about it, as sentences; `{key}` stands for the key of a new conversation."""
        if self.dropped:
            return (
                "The context is full, and the oldest messages are no longer read by the model. "
                "{key} begins a new conversation; this one is kept."
            )
        if self.positions < NEARLY_FULL * self.context or not self.context:
            return ""
        return (
            f"The context is {min(self.positions * 100 // self.context, 100)}% full; the oldest messages "
            "will soon be left out of what the model reads. {key} begins a new conversation."
        )


@dataclass(frozen=True)
class Speed:
    """The last answer's first token (seconds) and rate (tokens a second); None where not known."""

    first_token_s: float | None = None
    tokens_per_s: float | None = None

    @classmethod
    def of(cls, stats: Mapping[str, object]) -> Speed:
        """That of a message."""
        first, rate = (stats.get(name) for name in ("first_token_s", "tokens_per_s"))
        return cls(
            first if isinstance(first, int | float) else None, rate if isinstance(rate, int | float) else None
        )

    def __str__(self) -> str:
        parts = [
            f"{self.tokens_per_s:.1f} tokens/s" if self.tokens_per_s is not None else "",
            f"first after {self.first_token_s:.1f} s" if self.first_token_s is not None else "",
        ]
        return " · ".join(filter(None, parts))


class StatusLine(Widget):
    """One line; what does not fit is hidden, the least important first."""

    engine: reactive[EngineStatus] = reactive(EngineStatus())
    phase: reactive[str | None] = reactive[str | None](None)
    usage: reactive[ContextUsage] = reactive(ContextUsage())
    speed: reactive[Speed] = reactive(Speed())

    def __init__(self, *, still: bool = False) -> None:
        super().__init__(id="status")
        self._still = still
        self._frame = 0
        self._since = 0.0
        self._told_at = 0.0
        self._clock: Timer | None = None

    def on_mount(self) -> None:
        """Begin to move, if there is something to wait for and movement is wanted."""
        self._clock = self.set_interval(1.0 if self._still else 0.125, self._step, pause=True)
        self._pace()

    @property
    def busy(self) -> bool:
        """Whether somebody waits for something."""
        return self.phase is not None or self.engine.state == "loading"

    def watch_phase(self, before: str | None, after: str | None) -> None:
        """Count the seconds of each phase from its own beginning."""
        if before != after:
            self._since = time.monotonic()
            self._pace()

    def watch_engine(self, before: EngineStatus, after: EngineStatus) -> None:
        """As for a phase."""
        if before.state != after.state:
            self._since = time.monotonic()
            self._pace()

    def tell_speed(self, speed: Speed) -> None:
        """The speed of the answer so far; may be set with every text delta."""
        now = time.monotonic()
        if str(speed) and (not str(self.speed) or now - self._told_at >= SPEED_S):
            self.speed, self._told_at = speed, now

    def took(self, *, positions: int | None = None, pending: int | None = None) -> None:
        """Change parts of the context usage."""
        usage = self.usage
        self.usage = replace(
            usage,
            positions=usage.positions if positions is None else positions,
            pending=usage.pending if pending is None else pending,
        )

    def render(self) -> RenderResult:
        """What fits, in the order of its worth: doing, warning, bar, speed."""
        width = self.size.width
        left = self._doing(width)
        for right in self._right_sides():
            gap = width - left.cell_length - right.cell_length
            if gap >= 2:
                return Content.assemble(left, " " * gap, right)
        return left.truncate(max(width, 1), ellipsis=True) if width > 0 else Content("")

    def _doing(self, width: int) -> Content:
        engine = self.engine
        name = sanitize_line(engine.bundle, 30)
        if engine.state == "dead":
            return Content.styled("✕ the model is not running", "$text-error")
        mark = ("● " if self._still else f"{FRAMES[self._frame % len(FRAMES)]} ", "$primary")
        if engine.state == "loading":
            return Content.assemble(mark, f"loading {name}", self._fetched(width), self._waited())
        if self.phase is not None:
            return Content.assemble(mark, PHASES.get(self.phase, self.phase), self._waited())
        if engine.state == "off":
            return Content.styled("○ no model", "$text-muted")
        return Content.assemble(("● ", "$success"), name)

    def _fetched(self, width: int) -> Content:
        engine = self.engine
        if not engine.file or width < 60:
            return Content("")
        share = f"{engine.done * 100 // engine.total}% of " if engine.total else ""
        size = f"{share}{(engine.total or engine.done) / 1e6:,.0f} MB"
        return Content.styled(f" · {sanitize_line(engine.file, 30)} {size}", "$text-muted")

    def _waited(self) -> Content:
        seconds = time.monotonic() - self._since
        return Content.styled(f" {seconds:.0f} s" if seconds >= 2 else "", "$text-muted")

    def _right_sides(self) -> list[Content]:
        usage = self.usage
        warning = Content.styled(usage.warning, "$text-warning")
        if not usage.context:
            speed = Content.styled(str(self.speed), "$text-muted")
            return [speed, Content("")]
        colour = "$text-warning" if usage.warning else "$primary"
        taken = round(usage.fraction * BAR_CELLS) or (1 if usage.positions + usage.pending else 0)
        bar = Content.assemble(
            ("━" * taken, colour),
            ("─" * (BAR_CELLS - taken), "$foreground 35%"),
            (f" {usage.positions + usage.pending:,} of {usage.context:,}", "$text-muted"),
        )
        speed = Content.styled(str(self.speed), "$text-muted")
        parts = [[speed, warning, bar], [warning, bar], [warning], [bar]]
        found = [_joined(kept) for kept in parts if all(part.plain for part in kept) or len(kept) > 1]
        return [*[side for side in found if side.plain], Content("")]

    def _step(self) -> None:
        self._frame += 1
        self.refresh()

    def _pace(self) -> None:
        if self._clock is not None:
            if self.busy:
                self._clock.resume()
            else:
                self._clock.pause()


def _joined(parts: list[Content]) -> Content:
    kept = [part for part in parts if part.plain]
    return Content("   ").join(kept)
