"""`minigpt4 chat photo.jpg`: a conversation about pictures, in the app or line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.cli import options
from minigpt4.tui.cli.chat.app import is_at_screen, open_app, open_store, picture_of
from minigpt4.tui.cli.options import MODEL, SAMPLING
from minigpt4.tui.images.attachments import Attachment
from minigpt4.tui.settings.settings import load_settings
from minigpt4.tui.terminal.messages import printable, say

if TYPE_CHECKING:
    from minigpt4.tui.cli.chat.plain import PlainChat
    from minigpt4.tui.cli.options import Chosen
    from minigpt4.tui.history.store import ConversationInfo, Store


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
        str | None,
        typer.Option("--resume", metavar="ID", help="Go on with a kept conversation; 'last' is the latest."),
    ] = None,
    theme: Annotated[str | None, typer.Option("--theme", help="Colours for this time.")] = None,
    pictures: Annotated[
        str | None,
        typer.Option("--images", help="How pictures are drawn: auto, kitty, sixel, halfblock, off."),
    ] = None,
    reduced_motion: Annotated[
        bool | None, typer.Option("--reduced-motion", help="Nothing slides, fades or blinks.")
    ] = None,
    system_prompt: options.SystemPrompt = None,
    bundle: options.BundleGiven = None,
    backend: options.BackendGiven = None,
    device: options.DeviceGiven = None,
    projection: options.ProjectionFile = None,
    threads: options.Threads = None,
    quant: options.QuantGiven = None,
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
    keys. Through a pipe answers go to standard output, all else to standard error. What is not given
    here comes from the settings, as `minigpt4 config show` prints them.
    """
    del bundle, backend, device, threads, quant, gpu_layers, context, theme, reduced_motion
    del max_tokens, top_p, repetition_penalty, seed, system_prompt
    given = options.typed(ctx, (*MODEL, *SAMPLING, "theme", "reduced_motion", "system_prompt"))
    if greedy and temperature:
        raise UsageError(
            f"--greedy and --temperature {temperature:g} contradict each other; give one of them."
        )
    files = [picture_of(name) for name in images or []]
    if plain or not is_at_screen():
        code = _plain(given, files, resume, projection, offload_vision, greedy)
    else:
        if greedy:
            given |= {"temperature": 0.0, "repetition_penalty": 1.0}
        projection = options.of_run(given, projection)
        loaded = load_settings(given | {"images": pictures})
        options.check_model(loaded, projection)
        code = open_app(loaded, files, resume, projection, offload_vision)
    raise typer.Exit(code)


def _plain(
    given: Mapping[str, Any],
    files: Sequence[Attachment],
    resume: str | None,
    projection: Path | None,
    offload_vision: bool,
    greedy: bool,
) -> int:
    """The chat line by line; what was typed stands over the settings."""
    from minigpt4.tui.history.store import StoreError

    loaded = load_settings()
    store, problem = open_store(resume)
    with closing(store):
        for sentence in (problem, store.notice):
            if sentence:
                say(f"minigpt4: {printable(sentence)}")
        with suppress(StoreError):
            # Locked for a while: the next start does it.
            store.recover()
        conversation = store.find(resume) if resume is not None else None
        if conversation is not None:
            loaded = loaded.for_conversation(store.settings(conversation.id))
        chosen = options.choose(
            loaded, given, projection=projection, offload_vision=offload_vision, greedy=greedy
        )
        for sentence in loaded.problems:
            say(f"minigpt4: {printable(sentence)}")
        # A picture that cannot be opened is refused before the model loads.
        pictures = [one.open() for one in files]
        with _opened(chosen, store, conversation) as chat:
            for file, picture in zip(files, pictures, strict=True):
                chat.attach(picture, file.name)
            return chat.run()


@contextmanager
def _opened(chosen: Chosen, store: Store, conversation: ConversationInfo | None) -> Iterator[PlainChat]:
    """A plain chat with its model loaded, which goes on with the conversation, if there is one."""
    from minigpt4.tui.cli.chat.plain import PlainChat
    from minigpt4.tui.cli.chat.plain_history import Record
    from minigpt4.tui.terminal.ansi import ansi_colors

    colors = ansi_colors(chosen.theme)
    bundle = chosen.model.bundle_name
    say(colors.quiet(f"Loading {bundle} ..."))
    record = Record(
        store, conversation, bundle=bundle, told=lambda sentence: say(colors.warning(printable(sentence)))
    )
    with options.load_engine(chosen.model, bars=False) as engine:
        chat = PlainChat(engine, chosen.sampling, colors, record, chosen.system_prompt)
        if conversation is not None:
            chat.go_on(conversation.title, store.path(conversation.id))
        yield chat
