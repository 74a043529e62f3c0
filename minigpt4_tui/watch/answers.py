"""Sample answers logged during training: each photo once, with every run's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt4.tui.images.drawing import View
from minigpt4.tui.terminal.sanitize import sanitize
from minigpt4.tui.watch.chart import letter_style
from minigpt4.tui.watch.plot import run_letter
from minigpt4.tui.widgets.picture import PictureArea

THUMBNAIL = (18, 7)
"""Maximum columns and rows of a photo."""


@dataclass(frozen=True)
class SampleQuestion:
    """A question about a photo (`picture` is None if it was not saved), and each run's index and answer."""

    key: str
    question: str
    picture: Path | None
    answers: tuple[tuple[int, str], ...]


class QuestionView(Horizontal):
    """One photo, the question, and the answers."""

    DEFAULT_CSS = """
    QuestionView {
        width: 100%;
        height: auto;
        margin-bottom: 1;
        PictureArea { margin-right: 2; }
        .texts { width: 1fr; height: auto; }
        .question { color: $text-muted; width: 100%; height: auto; }
        .answers { width: 100%; height: auto; padding-right: 1; }
    }
    """

    def __init__(self, question: SampleQuestion, *, has_letters: bool) -> None:
        super().__init__()
        self.question = question
        self._has_letters = has_letters

    def compose(self) -> ComposeResult:
        if self.question.picture is not None:
            yield PictureArea(THUMBNAIL)
        with Vertical(classes="texts"):
            yield Static(
                sanitize(self.question.question or self.question.key), classes="question", markup=False
            )
            yield Static(classes="answers", markup=False)

    def on_mount(self) -> None:
        """Draw the picture and the answers."""
        if self.question.picture is not None:
            self.query_one(PictureArea).show(View(self.question.picture))
        self.show(self.question)

    def show(self, question: SampleQuestion) -> None:
        """Show the answers, which may be new ones to the same question."""
        self.question = question
        lines = [
            Content.assemble(
                (f"{run_letter(run)} ", letter_style(run, self.app)) if self._has_letters else "",
                Content(sanitize(answer.strip()) or "(nothing)"),
            )
            for run, answer in question.answers
        ]
        self.query_one(".answers", Static).update(Content("\n").join(lines))

    @on(PictureArea.Failed)
    def _failed(self, event: PictureArea.Failed) -> None:
        """Hide the picture; the answers stay readable."""
        event.stop()
        event.area.display = False


class Answers(VerticalScroll):
    """The answers after one step, under a line that says which."""

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

    def show(self, moment: str, questions: Sequence[SampleQuestion], *, has_letters: bool) -> None:
        """Show answers; if the questions stay the same, only the answers are updated."""
        self.query_one(".moment", Static).update(moment)
        views = list(self.query(QuestionView))
        if [_key(view.question) for view in views] == [_key(one) for one in questions]:
            for view, one in zip(views, questions, strict=True):
                if view.is_mounted and view.question != one:
                    view.show(one)
            return
        for view in views:
            view.remove()
        self.mount_all(QuestionView(one, has_letters=has_letters) for one in questions)


def _key(question: SampleQuestion) -> tuple[str, str, Path | None]:
    return question.key, question.question, question.picture
