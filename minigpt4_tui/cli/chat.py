"""`minigpt4 chat photo.jpg`: a conversation about pictures, in the app or line by line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.tui.attachments import STANDARD_INPUT, Attachment, attachment
from minigpt4.tui.cli import options
from minigpt4.tui.cli.edge import say
from minigpt4.tui.cli.options import ModelChoice, sampling_from
from minigpt4.tui.settings import Loaded, Settings, load_settings

if TYPE_CHECKING:
    from minigpt4.tui.store import Store

MODEL = ("bundle", "backend", "device", "threads", "quant", "gpu_layers", "context")
SAMPLING = ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed")
LOOK = ("theme", "images", "reduced_motion", "system_prompt")


def chat(
    ctx: typer.Context,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Pictures to begin with.")
    ] = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain", help="Line by line, for screen readers and pipes; there by itself in a pipe."
        ),
    ] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="ID", help="Go on with a kept conversation.")
    ] = None,
    theme: Annotated[str | None, typer.Option("--theme", help="Colours for this time.")] = None,
    pictures: Annotated[
        str | None,
        typer.Option("--images", help="How pictures are drawn: auto, kitty, sixel, halfblock, off."),
    ] = None,
    reduced_motion: Annotated[
        bool | None, typer.Option("--reduced-motion", help="Nothing slides, fades or blinks.")
    ] = None,
    system_prompt: Annotated[
        str | None, typer.Option("--system-prompt", help="What the model is told before the conversation.")
    ] = None,
    bundle: options.BundleName = "mini",
    backend: options.BackendName = "auto",
    device: options.Device = "auto",
    projection: options.ProjectionFile = None,
    threads: options.Threads = None,
    quant: options.Quant = "auto",
    gpu_layers: options.GpuLayers = None,
    context: options.Context = None,
    offload_vision: options.OffloadVision = False,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    greedy: options.Greedy = False,
) -> None:
    """Talk about your pictures, turn by turn.

    Type a question and Enter; drop a picture on the window, or add it with /image PATH. F1 shows all
    keys. Through a pipe answers go to standard output, all else to standard error.
    """
    del bundle, backend, device, threads, quant, gpu_layers, context, theme, reduced_motion
    del max_tokens, top_p, repetition_penalty, seed
    given = _given(ctx)
    if greedy and temperature:
        raise UsageError(
            f"--greedy and --temperature {temperature:g} contradict each other; give one of them."
        )
    files = [_file(name) for name in images or []]
    projection = projection.expanduser() if projection else None
    if plain or not _at_screen():
        if resume is not None:
            raise UsageError(
                "--resume opens the app, which needs a terminal and no --plain; "
                f"`minigpt4 history show {resume}` prints the conversation."
            )
        code = _plain(given, files, projection, offload_vision, greedy)
    else:
        if greedy:
            given |= {"temperature": 0.0, "repetition_penalty": 1.0}
        given |= {"images": pictures, "system_prompt": system_prompt}
        code = _app(load_settings(given), files, resume, projection, offload_vision)
    raise typer.Exit(code)


def _given(ctx: typer.Context) -> dict[str, Any]:
    """The settings among the options, those only that were typed."""
    names = (*MODEL, *SAMPLING, "theme", "reduced_motion")
    typed = {name: ctx.params[name] for name in names if _is_typed(ctx, name)}
    return {name: value for name, value in typed.items() if value is not None}


def _is_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _at_screen() -> bool:
    """Whether there is a person at a terminal that can be drawn on."""
    streams = (sys.stdin, sys.stdout)
    return all(one is not None and one.isatty() for one in streams) and os.environ.get("TERM") != "dumb"


def _plain(
    given: Mapping[str, Any],
    files: Sequence[Attachment],
    projection: Path | None,
    offload_vision: bool,
    greedy: bool,
) -> int:
    """The chat line by line; what was typed stands over the settings."""
    loaded = load_settings()
    for problem in loaded.problems:
        say(f"minigpt4: {problem}")
    values = {**_fields(loaded.settings), **given}
    choice = ModelChoice.of(
        **{name: values[name] for name in MODEL}, projection=projection, offload_vision=offload_vision
    )
    dice = {name: values[name] for name in SAMPLING}
    if greedy:
        dice["temperature"] = None
    sampling = sampling_from(choice.bundle.sampling, **dice, greedy=greedy)
    # A picture that cannot be opened is refused before the model loads.
    pictures = [one.open() for one in files]
    from minigpt4.tui.ink import ink_for
    from minigpt4.tui.plain import PlainChat

    ink = ink_for(values["theme"])
    say(ink.quiet(f"Loading {choice.bundle.name} ..."))
    with choice.load() as engine:
        conversation = PlainChat(engine, sampling, ink)
        for picture in pictures:
            conversation.attach(picture)
        return conversation.run()


def _fields(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in (*MODEL, *SAMPLING, "theme")}


def _app(
    loaded: Loaded, files: Sequence[Attachment], resume: str | None, projection: Path | None, offload: bool
) -> int:
    """The app, until the person leaves it; returns the exit code."""
    from minigpt4.tui.picture_protocol import ask_terminal

    for one in files:
        if isinstance(one.source, Path) and not one.source.exists():
            raise UsageError(f"There is no file '{one.source}'; give the path of a picture.")
    # The terminal answers while the app is imported.
    question = ask_terminal(loaded.settings.images)
    from minigpt4.core.worker import Worker
    from minigpt4.tui.app import MiniGPT4App

    store, problem = _store()
    try:
        if problem:
            loaded = replace(loaded, problems=(*loaded.problems, problem))
        conversation = store.find(resume).id if resume is not None else None
        app = MiniGPT4App(loaded, store, Worker, files, conversation, projection=projection, offload=offload)
        question.wait()
        try:
            app.run()
        finally:
            app.close_down()
        return app.return_code or 0
    finally:
        store.close()


def _store() -> tuple[Store, str]:
    """The kept conversations; where they cannot be opened a store for this time, and the sentence why."""
    from minigpt4.tui.store import Store

    try:
        return Store.open(), ""
    except Minigpt4Error as error:
        return Store.temporary(), f"{error} What is said now is not kept."


def _file(name: str) -> Attachment:
    if name == STANDARD_INPUT:
        raise UsageError("'-' cannot be a picture here: standard input is what you type; give a file.")
    return attachment(name)
