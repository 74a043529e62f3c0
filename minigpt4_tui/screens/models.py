"""The bundles: their parts and memory, downloading them, and switching to another one."""

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
from minigpt4.tui.conversation.engine_status import options_from
from minigpt4.tui.models.background_download import RUNNING, Download
from minigpt4.tui.models.bundle_info import BundleInfo, all_bundles
from minigpt4.tui.screens.dialog import Dialog
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

REDRAW_S = 0.25

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


class BundleScreen(Dialog[bool]):
    """One bundle: actions above, its parts below. Closes with True when it was chosen."""

    HINT = "↑↓ choose · Enter does it · Tab scrolls the details"
    DEFAULT_CSS = """
    BundleScreen {
        #progress { height: auto; padding: 0 1; }
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
        """As last read."""
        return self._models.infos[self._bundle]

    def heading(self) -> str:
        return sanitize_line(self._bundle)

    def body(self) -> ComposeResult:
        yield Static("", id="progress", markup=False)
        yield OptionRows(id="actions")
        with VerticalScroll(id="details"):
            yield Static("", id="parts", markup=False)

    def on_mount(self) -> None:
        """Show the bundle, and follow its download."""
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
                self._download()
            case _:
                options = replace(options_from(self.host.settings), bundle=self._bundle, quant="auto")
                if quant:
                    # The quantization of a bundle's own GGUF may have no name among the settings.
                    named = quant if quant in (*TORCH_QUANTS, *GGUF_QUANTS) else "auto"
                    backend = "torch" if quant in TORCH_QUANTS else "llamacpp"
                    options = replace(options, backend=backend, quant=named)
                self.host.switch_model(options, here=what == "here")
                self.dismiss(True)

    def _download(self) -> None:
        download = RUNNING[self._bundle] = Download(self._bundle)
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
    return f"{now.done * 100 // now.total}%" if now is not None and now.total else ""


def _progress(download: Download) -> Content:
    now, notice = download.progress, sanitize(download.notice)
    if now is None:
        return Content.assemble("Downloading: checking which files are missing…\n", notice, "\n")
    filled = 30 * now.done // now.total if now.total else 0
    size = size_text(now.done) + (f" of {size_text(now.total)}" if now.total else "")
    bar = Content.assemble(("━" * filled, "$primary"), ("─" * (30 - filled), "$foreground 35%"))
    line = f"  {sanitize_line(now.file, 40)}  {size} {_percent(download)}\n"
    return Content.assemble(bar, line, notice, "\n")


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
