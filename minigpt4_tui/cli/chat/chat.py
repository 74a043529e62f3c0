"""`minigpt4 chat photo.jpg`: a conversation about pictures, in the app or line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.tui.cli import options
from minigpt4.tui.cli.chat.app import is_at_screen, open_app, open_store, picture_of
from minigpt4.tui.images.attachments import Attachment
from minigpt4.tui.settings.settings import Loaded, load_settings
from minigpt4.tui.terminal.messages import printable, say

if TYPE_CHECKING:
    from minigpt4.tui.cli.chat.plain import PlainChat
    from minigpt4.tui.cli.options import Chosen
    from minigpt4.tui.history.store import ConversationInfo, Store


@options.with_option_sets
def chat(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE]...",
            help="Pictures for the first message: files or http addresses; a folder opens the picker there.",
        ),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Line by line, for screen readers and pipes; the default in a pipe."),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="ID", help="Resume a conversation; 'last' is the latest."),
    ] = None,
    theme: Annotated[str | None, typer.Option("--theme", help="Colour theme of this session.")] = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            "--images", help="How to draw pictures: auto, kitty, sixel, sextant, quadrant, halfblock or off."
        ),
    ] = None,
    reduced_motion: Annotated[bool | None, typer.Option("--reduced-motion", help="No animations.")] = None,
    system_prompt: options.SystemPrompt = None,
    model: options.ModelFlags = options.MODEL_FROM_SETTINGS,
    sampling: options.SamplingFlags = options.SAMPLING_FROM_SETTINGS,
) -> None:
    """Talk about your pictures, turn by turn.

    Type a question and Enter; drop a picture on the window, or add it with /image PATH. F1 shows all
    keys. In a pipe answers go to standard output, everything else to standard error. Options that are
    not given come from the settings (`minigpt4 config show`).
    """
    given = model.given() | sampling.given()
    files = [picture_of(name) for name in images or []]
    projection = options.of_run(given, model.projection)
    own = {"theme": theme, "images": pictures, "reduced_motion": reduced_motion}
    loaded = load_settings(given | own | {"system_prompt": system_prompt})
    if plain or not is_at_screen():
        code = _plain(loaded, files, resume, projection, model.offload_vision)
    else:
        options.check_model(loaded, projection)
        code = open_app(loaded, files, resume, projection, model.offload_vision)
    raise typer.Exit(code)


def _plain(
    loaded: Loaded,
    files: Sequence[Attachment],
    resume: str | None,
    projection: Path | None,
    offload_vision: bool,
) -> int:
    """Run the chat line by line; returns the exit code."""
    from minigpt4.tui.cli.chat.line_input import at_terminal
    from minigpt4.tui.cli.chat.plain_pictures import folder_of, offer
    from minigpt4.tui.cli.crash_guard import continue_in_child
    from minigpt4.tui.conversation.slash_commands import prompt_problems
    from minigpt4.tui.history.store import StoreError

    # Fork now: files that crash llama.cpp may come with `/models`, when other models' threads prevent it.
    continue_in_child()
    store, problem = open_store(resume)
    with closing(store):
        for sentence in (problem, store.notice):
            if sentence:
                say(f"minigpt4: {printable(sentence)}")
        with suppress(StoreError):
            # The store is locked for a while: the next start recovers it.
            store.recover()
        conversation = store.find(resume) if resume is not None else None
        if conversation is not None:
            loaded = loaded.for_conversation(store.settings(conversation.id))
        chosen = options.choose(loaded, projection, offload_vision=offload_vision)
        for sentence in (*loaded.problems, *prompt_problems()):
            say(f"minigpt4: {printable(sentence)}")
        # In a script a folder is a mistake, as nobody can choose from it.
        folders = [folder for one in files if at_terminal() and (folder := folder_of(one))]
        files = [one for one in files if one.source not in folders]
        # Fail on an unreadable picture before the model loads.
        pictures = [one.open() for one in files]
        settings = (loaded, projection, offload_vision)
        with _opened(settings, chosen, store, conversation) as chat:
            for file, picture in zip(files, pictures, strict=True):
                chat.attach(picture, file)
            for folder in folders[-1:]:
                offer(chat, folder)
            return chat.run()


@contextmanager
def _opened(
    settings: tuple[Loaded, Path | None, bool],
    chosen: Chosen,
    store: Store,
    conversation: ConversationInfo | None,
) -> Iterator[PlainChat]:
    """A plain chat with its model loaded; resumes `conversation` if given.

    `settings` choose the model; they are the first three fields of `PlainModel`.
    """
    from minigpt4.tui.cli.chat.plain import PlainChat
    from minigpt4.tui.cli.chat.plain_history import Record
    from minigpt4.tui.cli.chat.plain_model import PlainModel
    from minigpt4.tui.terminal.ansi import ansi_colors

    colors = ansi_colors(chosen.theme)
    bundle = chosen.model.bundle_name
    say(colors.quiet(f"Loading {bundle} ..."))
    record = Record(
        store, conversation, bundle=bundle, on_error=lambda sentence: say(colors.warning(printable(sentence)))
    )
    model = PlainModel(*settings, chosen, options.load_engine(chosen.model, bars=False))
    try:
        chat = PlainChat(model.engine, chosen.sampling, colors, record, chosen.system_prompt, model)
        if conversation is not None:
            chat.resume(conversation.title, store.path(conversation.id))
        yield chat
    finally:
        model.engine.close()
