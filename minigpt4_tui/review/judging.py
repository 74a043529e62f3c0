"""A person judges the answers of one run or of several: `minigpt4 eval judge RUN [RUN]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from minigpt4.core.errors import UsageError
from minigpt4.tui.app.standalone import at_terminal, run_app
from minigpt4.tui.review.app import ReviewApp
from minigpt4.tui.settings.settings import Loaded
from minigpt4.tui.terminal.messages import sentence
from minigpt4.tui.terminal.sanitize import sanitize

if TYPE_CHECKING:
    from minigpt4.train.evaluate.person import Case, Sitting

KEYS = (("y", "yes", "say('yes')"), ("n", "no", "say('no')"), ("u", "unsure", "say('unsure')"))
VALUES = {"yes": 1.0, "no": 0.0, "unsure": None}


def require_terminal() -> None:
    """Raise UsageError without a terminal."""
    if not at_terminal():
        raise UsageError(
            "A person judges at a terminal, and this is none; --judge names a model that needs none."
        )


def judge_in_person(sitting: Sitting, read: Callable[[Case], bytes]) -> None:
    """Show what is not judged yet until the person leaves.

    `read` returns the picture of an answer. Raises UsageError without a terminal.
    """
    require_terminal()
    run_app(lambda loaded: JudgeApp(loaded, sitting, read))


class JudgeApp(ReviewApp, inherit_bindings=False):
    """Shows one answer after the other, but not its run, nor whether it is a known negative."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *ReviewApp.BINDINGS,
        *(Binding(key, action, show=False) for key, _, action in KEYS),
    ]
    CSS = (
        ReviewApp.CSS
        + """
    #question { width: 100%; height: auto; text-style: bold; color: $text-primary; margin-bottom: 1; }
    #answer { width: 100%; height: auto; padding: 1 2; background: $surface; }
    .-flat #question { margin: 0; }
    .-flat #answer { padding: 0 1; }
    #answer:ansi, .-theme-contrast #answer { border-left: outer $primary; }
    """
    )

    def __init__(self, loaded: Loaded, sitting: Sitting, read: Callable[[Case], bytes]) -> None:
        super().__init__(loaded)
        self.sitting = sitting
        self._picture = read

    def texts(self) -> Iterable[Widget]:
        """The question and the answer."""
        return Static(id="question", markup=False), Static(id="answer", markup=False)

    def draw(self) -> None:
        """Show the answer to be judged, or that there is none left."""
        sitting = self.sitting
        case, total = sitting.current, len(sitting.cases)
        place = Content.assemble(
            (f"{sitting.judged:,} of {total:,} judged", "bold"),
            (sanitize(f"   by {sitting.judge}"), "$text-muted"),
            (f"   the one before: {sitting.last}" if sitting.last else "", "$text-muted"),
        )
        self.show_place(place, sitting.judged, total)
        undo = [("Backspace", "undo", "undo")] if sitting.judged else []
        self.screen.set_class(case is None, "-done")
        if case is None:
            self.query_one("#question", Static).update("Everything is judged.")
            words = "q leaves, and prints the scores. Backspace takes your last verdict back."
            self.query_one("#answer", Static).update(words)
            self.screen.remove_class("-zoomed")
            self.show_keys(*undo, ("q", "leave", "quit"))
            return
        self.query_one("#question", Static).update(sanitize(case.task.ask))
        self.query_one("#answer", Static).update(sanitize(case.task.answer.strip()) or "(no words)")
        self.show_picture(case, lambda: self._picture(case))
        self.show_keys(*KEYS, *undo, ("z", "picture", "zoom"), ("q", "leave", "quit"))

    def action_say(self, word: str) -> None:
        """Keep a verdict, and show the next answer."""
        if self.sitting.current is not None and self.is_read():
            self._change(lambda: self.sitting.decide(VALUES[word]))

    def action_undo(self) -> None:
        """Undo the last verdict, and show its answer again."""
        self._change(self.sitting.undo)

    def _change(self, change: Callable[[], object]) -> None:
        try:
            change()
        except OSError as error:
            self.say(sentence(error), "error")
        self.draw()
