"""The chat in the app: what happens before its first frame and after its last.

typer is not imported here: `minigpt4 chat photo.jpg` starts the app without it, see `minigpt4.tui.cli`.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.cores import usable_cores
from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.tui.cli.signals import end_on_signals
from minigpt4.tui.images.attachments import STANDARD_INPUT, Attachment, attachment, is_file
from minigpt4.tui.settings.settings import Loaded, load_settings
from minigpt4.tui.terminal.messages import printable, say

if TYPE_CHECKING:
    from minigpt4.core.worker.client import Worker
    from minigpt4.core.worker.messages import Event
    from minigpt4.tui.app.app import MiniGPT4App
    from minigpt4.tui.history.store import Store
    from minigpt4.tui.images.early_preview import EarlyPreview


def is_at_screen() -> bool:
    """Whether all standard streams are a terminal that the app can draw on."""
    # The app draws on standard error.
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(one is not None and one.isatty() for one in streams) and os.environ.get("TERM") != "dumb"


def chat_without_options(images: Sequence[str]) -> int:
    """Run `minigpt4 chat IMAGE...` on a screen, as the command does; returns the exit code."""
    return open_app(load_settings(), [picture_of(name) for name in images], None, None, False)


def open_app(
    loaded: Loaded, files: Sequence[Attachment], resume: str | None, projection: Path | None, offload: bool
) -> int:
    """Run the app until the user leaves it; returns the exit code."""
    from minigpt4.tui.images.terminal_protocol import query_terminal

    for one in files:
        if isinstance(one.source, Path) and not one.source.exists():
            raise UsageError(f"There is no file '{one.source}'; give the path of a picture.")
    end_on_signals()
    files, early = with_early_preview(files)
    if not os.environ.get("NO_COLOR"):
        # An empty value has no meaning (no-color.org), but Textual obeys it.
        os.environ.pop("NO_COLOR", None)
    # Before the first frame there is next to no garbage, and collecting it takes 20 ms.
    gc.disable()
    store, problem = open_store(resume)
    try:
        if problem:
            loaded = replace(loaded, problems=(*loaded.problems, problem))
        if resume is not None and store.notice:
            say(f"minigpt4: {printable(store.notice)}")
        conversation = store.find(resume).id if resume is not None else None
        # The terminal replies while the app is imported. After an earlier query, a shell could get the reply.
        wait_for_reply = query_terminal(loaded.settings.images)
        from minigpt4.tui.app.app import MiniGPT4App

        app = MiniGPT4App(loaded, store, _worker, files, conversation, projection=projection, offload=offload)
        wait_for_reply()
        try:
            app.run()
        finally:
            app.close_down()
        if app.fault is not None:
            if not problem:
                _print_resume_command(app)
            raise app.fault
        return app.return_code or 0
    finally:
        if early is not None:
            early.close()
        store.close()
        # Otherwise Python collects all imported modules once more before it exits: 0.1 s.
        gc.freeze()


def with_early_preview(files: Sequence[Attachment]) -> tuple[Sequence[Attachment], EarlyPreview | None]:
    """The pictures, the first with its early preview if it is a file and there is more than one CPU."""
    # Not a FIFO, which can be read only once.
    if not files or not isinstance(files[0].source, Path) or not is_file(files[0].source):
        return files, None
    if usable_cores() < 2:
        return files, None
    from minigpt4.tui.images.early_preview import EarlyPreview

    try:
        early = EarlyPreview(files[0].source)
    except OSError:
        return files, None
    waiting = [replace(one, opens_after=early.was_shown) for one in files]
    return [replace(waiting[0], early=early), *waiting[1:]], early


def _worker(on_event: Callable[[Event], None]) -> Worker:
    """The engine's process; its module is imported after the first frame."""
    from minigpt4.core.worker.client import Worker

    return Worker(on_event)


def _print_resume_command(app: MiniGPT4App) -> None:
    """After a crash, print the command that resumes the conversation."""
    conversation = app.conversation.info
    if conversation is not None:
        say(f"Saved: `minigpt4 chat --resume {conversation.id}` continues the conversation.")


def open_store(resume: str | None) -> tuple[Store, str]:
    """The saved conversations; if they cannot be opened, a temporary store and the reason as a sentence.

    With `resume`, raises the error instead.
    """
    from minigpt4.tui.history.store import Store

    try:
        return Store.open(), ""
    except Minigpt4Error as error:
        if resume is not None:
            raise
        return Store.temporary(), f"{error} What is said now is not kept."


def picture_of(name: str) -> Attachment:
    """The picture that an argument names; raises UsageError for standard input."""
    if name == STANDARD_INPUT:
        raise UsageError("'-' cannot be a picture here: standard input is what you type; give a file.")
    return attachment(name)
