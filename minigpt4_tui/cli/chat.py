"""`minigpt4 chat photo.jpg`: a conversation about pictures."""

from __future__ import annotations

from typing import Annotated

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.attachments import STANDARD_INPUT, Attachment, attachment
from minigpt4.tui.cli import options
from minigpt4.tui.cli.edge import say
from minigpt4.tui.cli.options import ModelChoice, sampling_from

THEME = "harbour"


def chat(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Pictures to begin with.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Line by line, in any terminal; for now the only kind of chat.")
    ] = False,
    bundle: options.BundleName = "mini",
    backend: options.BackendName = "auto",
    device: options.Device = "auto",
    projection: options.ProjectionFile = None,
    threads: options.Threads = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    greedy: options.Greedy = False,
) -> None:
    """Talk about your pictures, turn by turn.

    Type a question and Enter. /image PATH adds a picture, /help shows the other commands.
    Lines may also come through a pipe: answers go to standard output, all else to standard error.
    """
    del plain  # the only kind so far
    choice = ModelChoice.of(
        bundle=bundle, backend=backend, device=device, projection=projection, threads=threads
    )
    sampling = sampling_from(
        choice.bundle.sampling,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        greedy=greedy,
    )
    # A picture that cannot be opened is refused before the model loads.
    pictures = [_file(name).open() for name in images or []]
    from minigpt4.tui.ink import ink_for
    from minigpt4.tui.plain import PlainChat

    ink = ink_for(THEME)
    say(ink.quiet(f"Loading {choice.bundle.name} ..."))
    with choice.load() as engine:
        conversation = PlainChat(engine, sampling, ink)
        for picture in pictures:
            conversation.attach(picture)
        code = conversation.run()
    raise typer.Exit(code)


def _file(name: str) -> Attachment:
    if name == STANDARD_INPUT:
        raise UsageError("'-' cannot be a picture here: standard input is what you type; give a file.")
    return attachment(name)
