"""The watch screen's views: a chart for each metric, the sample answers, and the bar that lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from minigpt4.tui.widgets.key_line import KeyLine, action_link

if TYPE_CHECKING:
    from minigpt4.train.run.log import Curve, RunLog


@dataclass(frozen=True)
class Metric:
    """A curve of every run; with `is_exact` it has no noise and is drawn without a running mean."""

    id: str
    name: str
    about: str
    text: Callable[[float], str]
    curve: Callable[[RunLog], Curve]
    marks: Callable[[RunLog], Curve] | None = None
    """Occasional measurements, drawn as single points."""

    is_exact: bool = False
    is_from_zero: bool = True


METRICS: tuple[Metric, ...] = (
    Metric(
        "loss",
        "loss",
        "loss per token, in nats",
        "{:.3f}".format,
        lambda log: log.loss,
        lambda log: log.val_loss,
        is_from_zero=False,
    ),
    Metric("rate", "learning rate", "learning rate", "{:.2e}".format, lambda log: log.lr, is_exact=True),
    Metric("gradient", "gradient", "gradient norm", "{:.3g}".format, lambda log: log.grad_norm),
    Metric("speed", "photos/s", "training photos per second", "{:.1f}".format, lambda log: log.samples_per_s),
)

ANSWERS = "answers"
"""The id of the view that is not a chart."""

NAMES = {**{metric.id: metric.name for metric in METRICS}, ANSWERS: "answers"}
"""Each view's name by its id, in the order of their number keys."""


class ViewBar(KeyLine):
    """The views with their number keys; `Clicked` has the id of a view."""

    DEFAULT_CSS = """
    ViewBar {
        height: 1;
        width: 100%;
        padding: 0 2;
        color: $text-muted;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """

    def __init__(self) -> None:
        super().__init__(is_plain=False)

    def show(self, chosen: str) -> None:
        """Highlight the chosen view."""
        parts: list[Content] = []
        for number, (view, name) in enumerate(NAMES.items(), start=1):
            style = "bold underline $text-primary" if view == chosen else ""
            parts.append(action_link(Content.assemble(f"{number} ", (name, style)), view))
        self.update(Content("   ").join(parts))
