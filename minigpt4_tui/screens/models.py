"""The bundles: their parts and memory, downloading them, and switching to another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from minigpt4.core.download.fetch import ASK_BYTES, FetchPlan
from minigpt4.core.download.sources import size_text
from minigpt4.core.memory import free_memory, gib
from minigpt4.core.weights.locate import GGUF_QUANTS, TORCH_QUANTS
from minigpt4.tui.conversation.engine_status import options_from
from minigpt4.tui.models.background_download import RUNNING, Download
from minigpt4.tui.models.bundle_info import BundleInfo, all_bundles, plan_of
from minigpt4.tui.screens.dialog import Dialog
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

if TYPE_CHECKING:
    from minigpt4.core.engine_options import EngineOptions

REDRAW_S = 0.25

BARS = 4
"""How many files, the newest, have a bar each."""

BAR_CELLS, NAME_COLUMNS = 16, 20

STATES = {"here": "here", "partly": "partly here", "absent": "not here", "broken": "broken"}


class ModelsScreen(Dialog[None]):
    """All bundles; Enter opens one."""

    HEADING = "Models"
    HINT = "↑↓ choose · Enter opens"
    SHAPE = "-low"

    def __init__(self) -> None:
        super().__init__()
        self.infos: dict[str, BundleInfo] = {}

    def body(self) -> ComposeResult:
        yield OptionRows(id="bundles")
        yield Static("", classes="note quiet", id="note", markup=False)

    def on_mount(self) -> None:
        """Read the bundles, and follow running downloads."""
        self.query_one(OptionRows).is_awaited = True
        self.read()
        self.set_interval(REDRAW_S, self._tick)
        self.host.engine_changed.subscribe(self, lambda _: self._draw())

    def read(self) -> None:
        """Read manifests and look for files on a background thread."""
        self.host.in_background(all_bundles, self._found)

    def _found(self, found: list[BundleInfo]) -> None:
        if self.is_attached:
            self.infos = {info.name: info for info in found}
            self.query_one(OptionRows).is_awaited = False
            self._draw()

    def _tick(self) -> None:
        if RUNNING:
            self._draw()

    def _draw(self) -> None:
        rows = self.query_one(OptionRows)
        width = max((len(name) for name in self.infos), default=0)
        in_use = self.host.engine.bundle
        keep = rows.chosen or self.host.settings.bundle
        prompts = [Option(_row(one, width, one.name == in_use), id=one.name) for one in self.infos.values()]
        rows.fill(prompts, keep=keep)

    @on(OptionRows.OptionHighlighted)
    def _highlighted(self, event: OptionRows.OptionHighlighted) -> None:
        info = self.infos.get(event.option_id or "")
        self.query_one("#note", Static).update(sanitize_line(info.summary) if info else "")

    @on(OptionRows.OptionSelected)
    def _show(self, event: OptionRows.OptionSelected) -> None:
        info = self.infos[event.option_id or ""]
        if info.state == "broken":
            self.host.say(info.summary, "error")
        else:
            self.app.push_screen(BundleScreen(self, info.name), self._chosen)

    def _chosen(self, was_chosen: bool | None) -> None:
        if was_chosen:
            self.dismiss(None)


class DownloadScreen(Dialog[bool]):
    """Asks before a large download; closes with True if it is wanted."""

    HEADING = "Download"
    HINT = "↑↓ choose · Enter does it"
    SHAPE = "-slim -low"
    DEFAULT_CSS = "DownloadScreen #answers { margin-top: 1; }"

    def __init__(self, plan: FetchPlan) -> None:
        super().__init__()
        self._plan = plan

    def body(self) -> ComposeResult:
        plan = self._plan
        files = "1 file" if plan.files == 1 else f"{plan.files} files"
        lines = [
            f"'{plan.bundle}' needs {size_text(plan.bytes)} in {files}.",
            f"The disk has {size_text(plan.free)} free; they go into {plan.folder}.",
        ]
        yield Static(sanitize("\n".join(lines)), classes="note", markup=False)
        yield OptionRows(id="answers")

    def on_mount(self) -> None:
        """Offer both answers, first the one that costs nothing."""
        yes = Option(f"Download {size_text(self._plan.bytes)}", id="yes")
        self.query_one(OptionRows).fill([Option("Not now", id="no"), yes])

    @on(OptionRows.OptionSelected)
    def _answered(self, event: OptionRows.OptionSelected) -> None:
        self.dismiss(event.option_id == "yes")


class BundleScreen(Dialog[bool]):
    """One bundle: actions above, its parts below. Closes with True when it was chosen."""

    HINT = "↑↓ choose · Enter does it · Tab scrolls the details"
    DEFAULT_CSS = """
    BundleScreen {
        #progress, #asked { height: auto; padding: 0 1; }
        #asked { color: $text-warning; margin-bottom: 1; }
        #actions { height: auto; max-height: 50%; }
        #details { margin-top: 1; height: 1fr; padding: 0 1; }
        #details:focus { background: $panel; }
    }
    """

    def __init__(self, models: ModelsScreen, name: str) -> None:
        super().__init__()
        self._models = models
        self._bundle = name
        self._drawn: object = None

    @property
    def info(self) -> BundleInfo:
        """The bundle as last read."""
        return self._models.infos[self._bundle]

    def heading(self) -> str:
        return sanitize_line(self._bundle)

    def body(self) -> ComposeResult:
        yield Static("", id="progress", markup=False)
        yield Static("", id="asked", markup=False)
        yield OptionRows(id="actions")
        with VerticalScroll(id="details"):
            yield Static("", id="parts", markup=False)

    def on_mount(self) -> None:
        """Show the bundle, and follow its download."""
        self._note("")
        self._draw()
        self.query_one(OptionRows).focus()
        self.set_interval(REDRAW_S, self._draw)

    def _draw(self) -> None:
        download = RUNNING.get(self._bundle)
        self.query_one("#progress", Static).update(_progress(download) if download else "")
        self.query_one("#progress").display = download is not None
        if self._drawn != (download, self.info):
            self._drawn = (download, self.info)
            rows = self.query_one(OptionRows)
            rows.fill([Option(text, id=what) for what, text in self._actions(download)], keep=rows.chosen)
            self.query_one("#parts", Static).update(_parts(self.info))

    def _actions(self, download: Download | None) -> list[tuple[str, str]]:
        info = self.info
        actions = [("use", "Use it from now on"), ("here", "Use it in this conversation only")]
        if download is not None:
            actions.insert(0, ("stop", "Stop the download; what has arrived is kept"))
        elif info.state == "here":
            actions.append(("fetch", "Check every file, and download damaged ones again"))
        else:
            actions.insert(0, ("fetch", f"Download what is missing ({info.size} in all)"))
        for quant, count in (info.memory or {}).items():
            made = " · GGUF here" if quant in info.ggufs else ""
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
                self._begin()
            case _:
                options = replace(options_from(self.host.settings), bundle=self._bundle, quant="auto")
                if quant:
                    # The quantization of a bundle's own GGUF may have no name among the settings.
                    named = quant if quant in (*TORCH_QUANTS, *GGUF_QUANTS) else "auto"
                    backend = "torch" if quant in TORCH_QUANTS else "llamacpp"
                    options = replace(options, backend=backend, quant=named)
                self._use(options, is_here=what == "here")

    def _use(self, options: EngineOptions, *, is_here: bool) -> None:
        """Switch to the bundle, after downloading large files; the engine fetches small ones."""

        def switch() -> None:
            self.host.switch_model(options, here=is_here)

        if self.info.bytes_absent is not None and self.info.bytes_absent <= ASK_BYTES:
            switch()
            self.dismiss(True)
        else:
            self._begin(switch)

    def _begin(self, then: Callable[[], None] | None = None) -> None:
        """Download the files, then call `then`; asks first if they have more than 1 GB."""
        absent = self.info.bytes_absent
        if self._bundle in RUNNING or (absent is not None and absent <= ASK_BYTES):
            self._download(then)
            return
        self._note("Asking how large the files are…")
        self.host.in_background(
            lambda: plan_of(self._bundle), lambda plan: self._ask(plan, then), self._failed
        )

    def _ask(self, plan: FetchPlan, then: Callable[[], None] | None) -> None:
        if not self.is_attached:
            return
        self._note("")
        if plan.is_large:
            self.app.push_screen(
                DownloadScreen(plan), lambda is_agreed: self._download(then) if is_agreed else None
            )
        else:
            self._download(then)

    def _failed(self, error: Exception) -> None:
        from minigpt4.tui.terminal.messages import sentence

        if self.is_attached:
            self._note(sanitize(sentence(error)))

    def _note(self, text: str) -> None:
        line = self.query_one("#asked", Static)
        line.update(text)
        line.display = bool(text)

    def _download(self, then: Callable[[], None] | None = None) -> None:
        if self._bundle in RUNNING:
            RUNNING[self._bundle].then = then
            self.host.say(f"'{self._bundle}' is used as soon as its files are here.")
            return
        download = RUNNING[self._bundle] = Download(self._bundle)
        download.then = then
        host, models = self.host, self._models

        def ended(sentence: str, is_error: bool = False) -> None:
            del RUNNING[download.bundle]
            host.say(sentence, "error" if is_error else "information")
            if models.is_attached:
                models.read()

        def done(_: None) -> None:
            if download.was_stopped:
                ended(f"Stopped downloading '{download.bundle}'; what has arrived is kept.")
            else:
                ended(f"All files of '{download.bundle}' are here.")
                if download.then is not None:
                    download.then()

        host.in_background(download.run, done, lambda error: ended(str(error), is_error=True))
        self._draw()


def _row(info: BundleInfo, width: int, is_in_use: bool) -> Content:
    download = RUNNING.get(info.name)
    state = STATES[info.state] if download is None else f"download {_percent(download)}".strip()
    needs = f"needs {info.least_memory}" if info.least_memory else ""
    mark = ("● ", "bold") if is_in_use else "  "
    name = sanitize_line(info.name).ljust(width)
    return Content.assemble(mark, (name, "bold"), f"  {info.size:>10}  {state:<14}", (needs, "dim"))


def _percent(download: Download) -> str:
    now = download.progress
    return f"{now.done_in_all * 100 // now.total_in_all}%" if now is not None and now.total_in_all else ""


def _progress(download: Download) -> Content:
    """A bar for each of the latest files, and one for all of them with rate and time left."""
    now, notice = download.progress, sanitize(download.notice)
    if now is None:
        return Content.assemble("Downloading: checking which files are missing…\n", notice, "\n")
    lines = [_bar(file, one.done, one.total) for file, one in list(download.files.items())[-BARS:]]
    if now.total_in_all:
        left, rate = download.seconds_left, download.rate
        parts = [f"{size_text(round(rate))}/s" if rate else "", f"{_time_text(left)} left" if left else ""]
        lines.append(_bar("in all", now.done_in_all, now.total_in_all))
        lines.append(Content(" · ".join(filter(None, parts))))
    return Content("\n").join([*lines, Content(notice)])


def _bar(name: str, done: int, total: int | None) -> Content:
    filled = BAR_CELLS * done // total if total else 0
    size = f"{size_text(done)} of {size_text(total)} {done * 100 // total}%" if total else size_text(done)
    bar = Content.assemble(("━" * filled, "$primary"), ("─" * (BAR_CELLS - filled), "$foreground 35%"))
    return Content.assemble(bar, f"  {sanitize_line(name, NAME_COLUMNS).ljust(NAME_COLUMNS)}  {size}")


def _time_text(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _parts(info: BundleInfo) -> Content:
    lines = [sanitize_line(info.summary), ""]
    lines += [f"{label:<12} {sanitize_line(text)}" for label, text in info.description]
    free = free_memory()
    lines += [f"{'Memory':<12} {gib(free)} free on this machine now"] if free is not None else []
    lines.append("")
    for file in info.files:
        size = size_text(file.bytes) if file.bytes is not None else "size unknown"
        lines.append(f"{'✓' if file.is_here else '·'} {sanitize_line(file.name)}  {size}")
    return Content("\n".join(lines))
