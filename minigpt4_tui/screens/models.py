"""The bundles: what they are made of, what they need, fetching them, and talking to another one."""

from __future__ import annotations

from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from minigpt4.core.download.sources import size_text
from minigpt4.core.memory import free_memory, gib
from minigpt4.core.weights.locate import GGUF_QUANTS, TORCH_QUANTS
from minigpt4.tui.conversation.engine_status import choice_from
from minigpt4.tui.models.background_download import RUNNING, Pull
from minigpt4.tui.models.bundle_info import BundleFacts, all_facts
from minigpt4.tui.screens.dialog import Dialog
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

REDRAW_S = 0.25

STATES = {"here": "here", "partly": "partly here", "absent": "not here", "broken": "broken"}


class ModelsScreen(Dialog[None]):
    """All bundles; Enter shows what can be done with one."""

    HEADING = "Models"
    HINT = "↑↓ choose · Enter shows it"
    SHAPE = "-low"

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, BundleFacts] = {}

    def body(self) -> ComposeResult:
        yield OptionRows(id="bundles")
        yield Static("", classes="note quiet", id="note", markup=False)

    def on_mount(self) -> None:
        """Look what is here, and keep the fetches' progress in sight."""
        self.look()
        self.set_interval(REDRAW_S, self._tick)
        self.host.engine_changed.subscribe(self, lambda _: self._draw())

    def look(self) -> None:
        """Read the manifests and look for their files, while the screen stays awake."""
        self.host.in_background(all_facts, self._found)

    def _found(self, found: list[BundleFacts]) -> None:
        if self.is_attached:
            self.facts = {facts.name: facts for facts in found}
            self._draw()

    def _tick(self) -> None:
        if RUNNING:
            self._draw()

    def _draw(self) -> None:
        rows = self.query_one(OptionRows)
        width = max((len(name) for name in self.facts), default=0)
        in_use = self.host.engine.bundle
        keep = rows.chosen or self.host.settings.bundle
        prompts = [Option(_row(one, width, one.name == in_use), id=one.name) for one in self.facts.values()]
        rows.fill(prompts, keep=keep)

    @on(OptionRows.OptionHighlighted)
    def _told(self, event: OptionRows.OptionHighlighted) -> None:
        facts = self.facts.get(event.option_id or "")
        self.query_one("#note", Static).update(sanitize_line(facts.summary) if facts else "")

    @on(OptionRows.OptionSelected)
    def _show(self, event: OptionRows.OptionSelected) -> None:
        facts = self.facts[event.option_id or ""]
        if facts.state == "broken":
            self.host.say(facts.summary, "error")
        else:
            self.app.push_screen(BundleScreen(self, facts.name), self._chosen)

    def _chosen(self, was_chosen: bool | None) -> None:
        if was_chosen:
            self.dismiss(None)


class BundleScreen(Dialog[bool]):
    """One bundle: above what can be done, below what it is made of. Closes with True when it was chosen."""

    HINT = "↑↓ choose · Enter does it · Tab reads below"
    DEFAULT_CSS = """
    BundleScreen {
        #progress { height: auto; padding: 0 1; }
        #actions { height: auto; max-height: 50%; }
        #facts { margin-top: 1; height: 1fr; padding: 0 1; }
        #facts:focus { background: $panel; }
    }
    """

    def __init__(self, models: ModelsScreen, name: str) -> None:
        super().__init__()
        self._models = models
        self._bundle = name
        self._drawn: object = None

    @property
    def facts(self) -> BundleFacts:
        """As they were when it was last looked."""
        return self._models.facts[self._bundle]

    def heading(self) -> str:
        return sanitize_line(self._bundle)

    def body(self) -> ComposeResult:
        yield Static("", id="progress", markup=False)
        yield OptionRows(id="actions")
        with VerticalScroll(id="facts"):
            yield Static("", id="parts", markup=False)

    def on_mount(self) -> None:
        """Show what there is, and how a fetch goes on."""
        self._draw()
        self.query_one(OptionRows).focus()
        self.set_interval(REDRAW_S, self._draw)

    def _draw(self) -> None:
        pull = RUNNING.get(self._bundle)
        self.query_one("#progress", Static).update(_progress(pull) if pull else "")
        self.query_one("#progress").display = pull is not None
        if self._drawn != (pull, self.facts):
            self._drawn = (pull, self.facts)
            rows = self.query_one(OptionRows)
            rows.fill([Option(text, id=what) for what, text in self._actions(pull)], keep=rows.chosen)
            self.query_one("#parts", Static).update(_parts(self.facts))

    def _actions(self, pull: Pull | None) -> list[tuple[str, str]]:
        facts = self.facts
        actions = [("use", "Use it from now on"), ("here", "Use it in this conversation alone")]
        if pull is not None:
            actions.insert(0, ("stop", "Stop fetching; what has arrived is kept"))
        elif facts.state == "here":
            actions.append(("fetch", "Check every file, and fetch damaged ones again"))
        else:
            actions.insert(0, ("fetch", f"Fetch what is missing ({facts.size} in all)"))
        for quant, count in (facts.memory or {}).items():
            made = " · GGUF here" if quant in facts.here else ""
            runs = "torch" if quant in TORCH_QUANTS else "llama.cpp"
            actions.append(
                (f"quant:{quant}", f"Use it as {quant:<7} {gib(count):>9} of memory · {runs}{made}")
            )
        return actions

    @on(OptionRows.OptionSelected)
    def _do(self, event: OptionRows.OptionSelected) -> None:
        what, _, quant = (event.option_id or "").partition(":")
        match what:
            case "stop":
                RUNNING[self._bundle].stop()
            case "fetch":
                self._fetch()
            case _:
                choice = replace(choice_from(self.host.settings), bundle=self._bundle, quant="auto")
                if quant:
                    # The form that a bundle's own GGUF has is no other's, and has no name among the settings.
                    named = quant if quant in (*TORCH_QUANTS, *GGUF_QUANTS) else "auto"
                    backend = "torch" if quant in TORCH_QUANTS else "llamacpp"
                    choice = replace(choice, backend=backend, quant=named)
                self.host.switch_model(choice, here=what == "here")
                self.dismiss(True)

    def _fetch(self) -> None:
        pull = RUNNING[self._bundle] = Pull(self._bundle)
        host, models = self.host, self._models

        def ended(sentence: str, is_error: bool = False) -> None:
            del RUNNING[pull.bundle]
            host.say(sentence, "error" if is_error else "information")
            if models.is_attached:
                models.look()

        def well(_: None) -> None:
            if pull.was_stopped:
                ended(f"Stopped fetching '{pull.bundle}'; what has arrived is kept.")
            else:
                ended(f"All files of '{pull.bundle}' are here.")

        host.in_background(pull.run, well, lambda error: ended(str(error), is_error=True))
        self._draw()


def _row(facts: BundleFacts, width: int, is_in_use: bool) -> Content:
    pull = RUNNING.get(facts.name)
    state = STATES[facts.state] if pull is None else f"fetching {_share(pull)}".strip()
    needs = f"needs {facts.least_memory}" if facts.least_memory else ""
    mark = ("● ", "bold") if is_in_use else "  "
    name = sanitize_line(facts.name).ljust(width)
    return Content.assemble(mark, (name, "bold"), f"  {facts.size:>10}  {state:<14}", (needs, "dim"))


def _share(pull: Pull) -> str:
    now = pull.progress
    return f"{now.done * 100 // now.total}%" if now is not None and now.total else ""


def _progress(pull: Pull) -> Content:
    now = pull.progress
    if now is None:
        return Content.assemble("Fetching: asking what there is…\n", sanitize(pull.notice), "\n")
    filled = 30 * now.done // now.total if now.total else 0
    size = size_text(now.done) + (f" of {size_text(now.total)}" if now.total else "")
    bar = Content.assemble(("━" * filled, "$primary"), ("─" * (30 - filled), "$foreground 35%"))
    return Content.assemble(
        bar, f"  {sanitize_line(now.file, 40)}  {size} {_share(pull)}\n", sanitize(pull.notice), "\n"
    )


def _parts(facts: BundleFacts) -> Content:
    lines = [sanitize_line(facts.summary), ""]
    lines += [f"{label:<12} {sanitize_line(text)}" for label, text in facts.made_of]
    free = free_memory()
    lines += [f"{'Memory':<12} {gib(free)} are free on this machine now"] if free is not None else []
    lines.append("")
    for part in facts.parts:
        size = size_text(part.bytes) if part.bytes is not None else "size not known yet"
        lines.append(f"{'✓' if part.is_here else '·'} {sanitize_line(part.name)}  {size}")
    return Content("\n".join(lines))
