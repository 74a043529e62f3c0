"""A person reviews curated descriptions: the review of `minigpt4 curate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TextArea

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.tui.app.standalone import at_terminal, run_app
from minigpt4.tui.review.app import ReviewApp
from minigpt4.tui.review.differences import differences
from minigpt4.tui.settings.bindings import bindings_of, key_label
from minigpt4.tui.settings.keys import bindings
from minigpt4.tui.settings.settings import Loaded
from minigpt4.tui.terminal.messages import sentence
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line

if TYPE_CHECKING:
    from minigpt4.train.curate.reviews import Reviews
    from minigpt4.train.curate.run_folder import Candidate

WORDS = {"accept": "accepted", "edit": "edited", "drop": "dropped"}
"""Decisions as the screen shows them."""


def review_in_person(reviews: Reviews) -> None:
    """Show the candidates until the person leaves. Raises UsageError without candidates or a terminal."""
    if not reviews.candidates:
        raise UsageError("There is nothing to review: no description passed the filters.")
    if not at_terminal():
        raise UsageError("Descriptions are reviewed at a terminal, and this is none.")
    run_app(lambda loaded: CurationApp(loaded, reviews))


class Editor(TextArea):
    """The text being edited, in the place where it is shown."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("editor"), *bindings_of("dialog")]

    @dataclass
    class Left(Message):
        """Editing is over; `text` is what to keep, None to keep what was there before."""

        text: str | None

    def action_save(self) -> None:
        """Keep the text."""
        self.post_message(self.Left(self.text))

    def action_close(self) -> None:
        """Leave it as it was."""
        self.post_message(self.Left(None))


class CurationApp(ReviewApp, inherit_bindings=False):
    """One picture after the other with its text before and after the repair."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *ReviewApp.BINDINGS,
        Binding("a", "accept", show=False),
        Binding("d", "drop", show=False),
        Binding("e", "edit", show=False),
        Binding("u", "undo", show=False),
        Binding("right,l", "move(1)", show=False),
        Binding("left,h", "move(-1)", show=False),
    ]
    CSS = (
        ReviewApp.CSS
        + """
    .-wide #texts { width: 3fr; }
    .-wide #photo { width: 2fr; }
    #name { width: 100%; height: auto; margin-bottom: 1; }
    .heading { width: 100%; height: 1; color: $text-muted; }
    #heading-before { margin-top: 1; }
    #before { width: 100%; height: auto; color: $text-muted; }
    #after { width: 100%; height: auto; padding: 1 2; background: $surface; }
    #after:ansi, .-theme-contrast #after, Editor:ansi { border-left: outer $primary; }
    .-flat #after { padding: 0 1; }
    .-flat #name, .-flat #heading-before { margin: 0; }
    Editor, Editor:focus { display: none; width: 100%; height: auto; min-height: 3; max-height: 80%;
                           border: none; padding: 1 2; background: $panel; }
    .-editing Editor, .-editing Editor:focus { display: block; }
    .-editing #after, .-same #before, .-same #heading-before { display: none; }
    """
    )

    def __init__(self, loaded: Loaded, reviews: Reviews) -> None:
        super().__init__(loaded)
        self.reviews = reviews
        self.index = -1
        self._labels = bindings(self.settings.keys).keys
        self._go_on()

    @property
    def current(self) -> Candidate:
        """The candidate that is shown."""
        return self.reviews.candidates[self.index]

    @property
    def is_editing(self) -> bool:
        """Whether its text is being edited."""
        return self.screen.has_class("-editing")

    def texts(self) -> Iterable[Widget]:
        """The text to decide about comes first: the original may be below the edge of a small screen."""
        yield Static(id="name", markup=False)
        yield Static(id="heading", classes="heading", markup=False)
        yield Static(id="after", markup=False)
        yield Editor(compact=True, highlight_cursor_line=False)
        yield Static("before the repair", id="heading-before", classes="heading", markup=False)
        yield Static(id="before", markup=False)

    def draw(self) -> None:
        """Show the candidate, and what was decided about it."""
        one, made = self.current, self.reviews.decision(self.current.key)
        self._draw_place()
        name = sanitize_line(one.key, max(self.size.width // 2, 10))
        word = WORDS[made.choice] if made is not None else ""
        style = "$text-error" if word == "dropped" else "$text-success"
        parts = Content.assemble((name, "bold"), (f"   {word}" if word else "", style))
        self.query_one("#name", Static).update(parts)
        kept = made.text if made is not None and made.choice == "edit" else one.after
        before, after = differences(sanitize(one.before), sanitize(kept))
        self.screen.set_class(one.before == kept, "-same")
        self.query_one("#before", Static).update(before)
        self.query_one("#after", Static).update(after)
        edited = " and your edit" if made is not None and made.choice == "edit" else ""
        heading = "as described, nothing repaired" if one.before == kept else f"after the repair{edited}"
        self.query_one("#heading", Static).update("your edit:" if self.is_editing else heading)
        self.show_picture(one, one.photo.read)
        self._draw_keys()

    def _draw_place(self) -> None:
        candidates, waiting = self.reviews.candidates, len(self.reviews.waiting)
        made = [self.reviews.decision(one.key) for one in candidates]
        counts = Counter(WORDS[one.choice] for one in made if one is not None)
        parts = [f"{counts[word]:,} {word}" for word in ("accepted", "edited", "dropped")]
        left = f"{waiting:,} left" if waiting else "all are reviewed, q leaves"
        place = Content.assemble(
            (f"{self.index + 1:,} of {len(candidates):,}", "bold"),
            ("   " + " · ".join(parts) + " · ", "$text-muted"),
            (left, "bold"),
        )
        self.show_place(place, len(candidates) - waiting, len(candidates))

    def _draw_keys(self) -> None:
        if self.is_editing:
            self.show_keys(
                (self._label("save"), "keeps it", "keep_edit"),
                (self._label("close"), "leaves it as it was", "leave_edit"),
            )
            return
        self.show_keys(
            ("a", "accept", "accept"),
            ("e", "edit", "edit"),
            ("d", "drop", "drop"),
            ("u", "undo", "undo"),
            ("←", "back", "move(-1)"),
            ("→", "on", "move(1)"),
            ("z", "picture", "zoom"),
            ("q", "leave", "quit"),
        )

    def _label(self, action: str) -> str:
        keys = self._labels.get(action, ())
        return key_label(keys[0]) if keys else f"(no key for {action})"

    # Deciding

    def action_accept(self) -> None:
        """Keep the text after the repair."""
        if self.is_read():
            self._decide(lambda: self.reviews.accept(self.current))

    def action_drop(self) -> None:
        """Leave the picture out."""
        if self.is_read():
            self._decide(lambda: self.reviews.drop(self.current))

    def action_edit(self) -> None:
        """Edit the text in its place."""
        made, editor = self.reviews.decision(self.current.key), self.query_one(Editor)
        editor.text = made.text if made is not None and made.text else self.current.after
        editor.move_cursor(editor.document.end)
        self.screen.remove_class("-zoomed")
        self.screen.add_class("-editing")
        self.draw()
        editor.focus()

    def action_keep_edit(self) -> None:
        """Keep the edited text."""
        self.query_one(Editor).action_save()

    def action_leave_edit(self) -> None:
        """Leave the text as it was."""
        self.query_one(Editor).action_close()

    @on(Editor.Left)
    def _edited(self, event: Editor.Left) -> None:
        text = event.text
        if text is not None and not text.strip():
            self.say("The text is empty; Esc leaves it as it was, and d then drops the picture.", "warning")
            return
        self.screen.remove_class("-editing")
        self.screen.set_focus(None)
        if text is None:
            self.draw()
        elif text.strip() == self.current.after.strip():
            self._decide(lambda: self.reviews.accept(self.current))
        else:
            self._decide(lambda: self.reviews.edit(self.current, text))

    def action_undo(self) -> None:
        """Undo the last decision, and show its picture."""
        key = self._try(self.reviews.undo)
        places = [place for place, one in enumerate(self.reviews.candidates) if one.key == key]
        self.index = places[0] if places else self.index
        self.draw()

    def action_move(self, by: int) -> None:
        """Show the next candidate, or the one before, decided or not."""
        self.index = min(max(self.index + by, 0), len(self.reviews.candidates) - 1)
        self.draw()

    async def action_quit(self) -> None:
        """Leave, unless that would lose an edit."""
        if self.is_editing and self.query_one(Editor).text != self.current.after:
            keep, leave = self._label("save"), self._label("close")
            self.say(f"{keep} keeps what you wrote, {leave} drops it; then q leaves.", "warning")
        else:
            self.leave()

    def _decide(self, decision: Callable[[], object]) -> None:
        self._try(decision)
        if self.reviews.decision(self.current.key) is not None:
            self._go_on()
        self.draw()

    def _try(self, change: Callable[[], object]) -> object:
        try:
            return change()
        except (OSError, Minigpt4Error) as error:
            self.say(sentence(error), "error")
            return None

    def _go_on(self) -> None:
        """Go to the next undecided candidate; after the last one, to the first."""
        waiting = {one.key for one in self.reviews.waiting}
        places = [place for place, one in enumerate(self.reviews.candidates) if one.key in waiting]
        later = [place for place in places if place > self.index]
        self.index = next(iter(later or places), max(self.index, 0))
