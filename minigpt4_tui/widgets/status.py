"""The line under the composer: the engine's activity, its speed, and the usage of its context.

While a message or a picture has the focus, its keys take the place of speed and usage.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from textual.app import RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.timer import Timer

from minigpt4.tui.conversation.engine_status import EngineStatus
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine

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


class Speed(NamedTuple):
    """The last answer's time to first token (seconds) and rate (tokens per second); None if unknown."""

    first_token_s: float | None = None
    tokens_per_s: float | None = None

    @classmethod
    def of(cls, stats: Mapping[str, object]) -> Speed:
        """The speed in a message's statistics."""
        values = (stats.get(name) for name in ("first_token_s", "tokens_per_s"))
        return cls(*(value if isinstance(value, int | float) else None for value in values))

    def __str__(self) -> str:
        parts = [
            f"{self.tokens_per_s:.1f} tokens/s" if self.tokens_per_s is not None else "",
            f"first after {self.first_token_s:.1f} s" if self.first_token_s is not None else "",
        ]
        return " · ".join(filter(None, parts))


class StatusLine(KeyLine):
    """One line; what does not fit is hidden, the least important first."""

    engine: reactive[EngineStatus] = reactive(EngineStatus())
    phase: reactive[str | None] = reactive[str | None](None)
    usage: reactive[ContextUsage] = reactive(ContextUsage())
    speed: reactive[Speed] = reactive(Speed())
    keys: reactive[tuple[Content, ...]] = reactive[tuple[Content, ...]](())
    """What keys do with the focused widget: the most useful first, and the way back last."""

    def __init__(self, *, still: bool = False) -> None:
        super().__init__(id="status")
        self._still = still
        self._frame = 0
        self._since = 0.0
        self._speed_at = 0.0
        self._clock: Timer | None = None

    def on_mount(self) -> None:
        """Start the animation if something is in progress."""
        self._clock = self.set_interval(1.0 if self._still else 0.125, self._step, pause=True)
        self._update_timer()

    @property
    def busy(self) -> bool:
        """Whether something is in progress."""
        return self.phase is not None or self.engine.state == "loading"

    def watch_phase(self, before: str | None, after: str | None) -> None:
        """Restart the count of seconds with each phase."""
        if before != after:
            self._since = time.monotonic()
            self._update_timer()

    def watch_engine(self, before: EngineStatus, after: EngineStatus) -> None:
        """Restart the count of seconds with each state."""
        if before.state != after.state:
            self._since = time.monotonic()
            self._update_timer()

    def update_speed(self, speed: Speed) -> None:
        """Show the speed of the answer so far; may be called with every text delta."""
        now = time.monotonic()
        if str(speed) and (not str(self.speed) or now - self._speed_at >= SPEED_S):
            self.speed, self._speed_at = speed, now

    def render(self) -> RenderResult:
        """The parts that fit, by priority: activity, warning, bar, speed."""
        width = self.size.width
        left = self._activity(width)
        for right in self._right_sides():
            gap = width - left.cell_length - right.cell_length
            if gap >= 2:
                return Content.assemble(left, " " * gap, right)
        return left.truncate(max(width, 1), ellipsis=True) if width > 0 else Content("")

    def _activity(self, width: int) -> Content:
        engine = self.engine
        name = sanitize_line(engine.bundle, 30)
        if engine.state == "dead":
            return Content.styled("✕ the model is not running", "$text-error")
        mark = ("● " if self._still else f"{FRAMES[self._frame % len(FRAMES)]} ", "$primary")
        if engine.state == "loading":
            return Content.assemble(mark, f"loading {name}", self._download(width), self._elapsed())
        if self.phase is not None:
            return Content.assemble(mark, PHASES.get(self.phase, self.phase), self._elapsed())
        if engine.state == "off":
            return Content.styled("○ no model", "$text-muted")
        return Content.assemble(("● ", "$success"), name)

    def _download(self, width: int) -> Content:
        engine = self.engine
        if not engine.file or width < 60:
            return Content("")
        percent = f"{engine.done * 100 // engine.total}% of " if engine.total else ""
        size = f"{percent}{(engine.total or engine.done) / 1e6:,.0f} MB"
        return Content.styled(f" · {sanitize_line(engine.file, 30)} {size}", "$text-muted")

    def _elapsed(self) -> Content:
        seconds = time.monotonic() - self._since
        return Content.styled(f" {seconds:.0f} s" if seconds >= 2 else "", "$text-muted")

    def _right_sides(self) -> list[Content]:
        """What may be shown on the right, longest first."""
        if self.keys:
            *others, back = self.keys
            shown = ((*others[:count], back) for count in range(len(others), -1, -1))
            keys = [Content(" · ").join(some).stylize_before("$text-muted") for some in shown]
            return [*keys, Content("")]
        usage = self.usage
        speed = Content.styled(str(self.speed), "$text-muted")
        if not usage.context:
            return [speed, Content("")]
        warning = Content.styled(usage.warning, "$text-warning")
        color = "$text-warning" if usage.warning else "$primary"
        taken = round(usage.fraction * BAR_CELLS) or (1 if usage.positions + usage.pending else 0)
        bar = Content.assemble(
            ("━" * taken, color),
            ("─" * (BAR_CELLS - taken), "$foreground 35%"),
            (f" {usage.positions + usage.pending:,} of {usage.context:,}", "$text-muted"),
        )
        sides = [[speed, warning, bar], [warning, bar], [warning], [bar]]
        joined = [Content("   ").join(part for part in side if part.plain) for side in sides]
        return [*[side for side in joined if side.plain], Content("")]

    def _step(self) -> None:
        self._frame += 1
        self.refresh()

    def _update_timer(self) -> None:
        if self._clock is not None:
            if self.busy:
                self._clock.resume()
            else:
                self._clock.pause()
