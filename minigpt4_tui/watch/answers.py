"""What the model answered about a few photos while it learnt: each photo once, and what every run said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt4.tui.terminal.sanitize import sanitize
from minigpt4.tui.watch.chart import letter_style
from minigpt4.tui.watch.plot import run_letter
from minigpt4.tui.widgets.picture import PictureArea, View

THUMBNAIL = (18, 7)
"""Most columns and rows of a photo."""


@dataclass(frozen=True)
class Said:
    """What one run answered; `run` is its number."""

    run: int
    answer: str


@dataclass(frozen=True)
class Asked:
    """A question about a photo, and what was answered; `picture` is None where it is not kept."""

    key: str
    question: str
    picture: Path | None
    said: tuple[Said, ...]


class AskedView(Horizontal):
    """One photo and what was said about it."""

    DEFAULT_CSS = """
    AskedView {
        width: 100%;
        height: auto;
        margin-bottom: 1;
        PictureArea { margin-right: 2; }
        .texts { width: 1fr; height: auto; }
        .question { color: $text-muted; width: 100%; height: auto; }
        .said { width: 100%; height: auto; padding-right: 1; }
    }
    """

    def __init__(self, asked: Asked, *, has_letters: bool) -> None:
        super().__init__()
        self.asked = asked
        self._has_letters = has_letters

    def compose(self) -> ComposeResult:
        if self.asked.picture is not None:
            yield PictureArea(THUMBNAIL)
        with Vertical(classes="texts"):
            yield Static(sanitize(self.asked.question or self.asked.key), classes="question", markup=False)
            yield Static(classes="said", markup=False)

    def on_mount(self) -> None:
        """Have the picture drawn."""
        if self.asked.picture is not None:
            self.query_one(PictureArea).show(View(self.asked.picture))
        self.say(self.asked)

    def say(self, asked: Asked) -> None:
        """Show other answers to the same question."""
        self.asked = asked
        lines = [
            Content.assemble(
                (f"{run_letter(one.run)} ", letter_style(one.run, self.app)) if self._has_letters else "",
                Content(sanitize(one.answer.strip()) or "(nothing)"),
            )
            for one in asked.said
        ]
        self.query_one(".said", Static).update(Content("\n").join(lines))

    @on(PictureArea.Failed)
    def _failed(self, event: PictureArea.Failed) -> None:
        """The answers can be read without it."""
        event.stop()
        event.area.display = False


class Answers(VerticalScroll):
    """The answers of one moment, under a line that tells which."""

    DEFAULT_CSS = """
    Answers {
        width: 1fr;
        height: 1fr;
        padding: 0 1 0 2;
        .moment { height: 1; width: 100%; margin-bottom: 1; color: $text-muted; text-wrap: nowrap;
                  text-overflow: ellipsis; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="answers", can_focus=False)

    def compose(self) -> ComposeResult:
        yield Static(classes="moment", markup=False)

    def show(self, moment: str, asked: Sequence[Asked], *, has_letters: bool) -> None:
        """Show answers; those to questions that are on the screen take the place of the old ones."""
        self.query_one(".moment", Static).update(moment)
        views = list(self.query(AskedView))
        if [_of(view.asked) for view in views] == [_of(one) for one in asked]:
            for view, one in zip(views, asked, strict=True):
                if view.is_mounted and view.asked != one:
                    view.say(one)
            return
        for view in views:
            view.remove()
        self.mount_all(AskedView(one, has_letters=has_letters) for one in asked)


def _of(asked: Asked) -> tuple[str, str, Path | None]:
    return asked.key, asked.question, asked.picture
