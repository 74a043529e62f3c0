"""`minigpt4 history`: the saved conversations."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.regular_file import open_file_or_pipe
from minigpt4.tui.history.records import HIT, HIT_END, SHOWN_ID
from minigpt4.tui.history.store import ConversationInfo, Hit, Store, StoredMessage
from minigpt4.tui.terminal.ansi import takes_color
from minigpt4.tui.terminal.messages import say
from minigpt4.tui.terminal.results import escaped_json, json_text, print_path
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line

history_app = typer.Typer(
    help="List, search, show, export and delete the kept conversations.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

EVERYTHING = sys.maxsize

Form = Literal["markdown", "html", "json"]
ENDINGS: dict[str, Form] = {".md": "markdown", ".html": "html", ".htm": "html", ".json": "json"}

Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The beginning of an id, as 'history list' shows it, or 'last' for the latest."
    ),
]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Beginnings of ids, or 'last'.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]


@history_app.command("list")
def list_conversations(
    limit: Limit = 50,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that 'restore' can bring back.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the conversations, the latest first.

    A line holds the id, the time of the last message, the number of messages, * if it is pinned, and the
    title. Pinned ones come first.
    """
    with _store() as store:
        wanted = EVERYTHING if everything else limit
        infos = store.deleted()[:wanted] if deleted else store.conversations(wanted)
    if as_json:
        _print_json([_info(info) for info in infos])
        return
    for info in infos:
        mark = "*" if info.pinned else " "
        title = sanitize_line(info.title) or "(empty)"
        print(f"{info.id[:SHOWN_ID]}  {_time(info.updated)}  {info.messages:>4} {mark} {title}")


@history_app.command("search")
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help='Words, or "several in quotes".')],
    limit: Limit = 30,
    as_json: AsJson = False,
) -> None:
    """Find words in all questions, answers, picture names and titles.

    A word is found by its beginning, and all words must be there. Exit code 1 if nothing is found.
    """
    # The shell has removed the quotes: an argument of several words was a phrase.
    query = " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)
    with _store() as store:
        hits = store.search(query, limit)
    if as_json:
        _print_json([_hit(hit) for hit in hits])
    for hit in hits if not as_json else ():
        print(f"{hit.conversation[:SHOWN_ID]}  {_time(hit.created)}  {_marked(hit.snippet)}")
    if not hits:
        say("Nothing was found.")
        raise typer.Exit(1)


@history_app.command("show")
def show(conversation: Id, as_json: AsJson = False) -> None:
    """Print a conversation as it was shown last."""
    with _store() as store:
        info = store.find(conversation)
        messages = store.path(info.id)
    if as_json:
        _print_json({**_info(info), "path": [_message(message) for message in messages]})
        return
    print(sanitize_line(info.title))
    for message in messages:
        print()
        for picture in message.pictures:
            print(f"[{sanitize_line(picture.name)}, {picture.width} x {picture.height}]")
        text = sanitize(message.text)
        if message.role == "user":
            text = "\n".join(f"> {line}" for line in text.split("\n"))
        print(text + ("" if message.state == "done" else f" [{message.state}]"))


@history_app.command("export")
def export(
    conversations: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="Beginnings of ids.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every conversation.")] = False,
    form: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="markdown, html or json.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="A folder for markdown, else a file or folder."),
    ] = None,
) -> None:
    """Write conversations as Markdown, HTML or JSON.

    Markdown comes with its pictures in a folder beside it, HTML and JSON hold them. Without --output
    JSON and a single page go to standard output. Prints the paths of the files.
    """
    with _store() as store:
        if everything == bool(conversations):
            raise UsageError("Give the ids of conversations, or --all; `minigpt4 history list` shows them.")
        infos = (
            store.conversations(EVERYTHING)
            if everything
            else [store.find(one) for one in conversations or ()]
        )
        match _form(form, output):
            case "markdown":
                _export_markdown(store, infos, output)
            case "html":
                _export_html(store, infos, output)
            case "json":
                from minigpt4.tui.history.json_format import to_json

                _write(escaped_json(to_json(store, [info.id for info in infos])), output)


@history_app.command("import")
def import_conversations(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSON export; - for standard input.")],
) -> None:
    """Add the conversations of a JSON export.

    Prints the ids of the new ones; those that are here already are left as they are.
    """
    from minigpt4.tui.history.json_format import from_json

    if str(file) == "-":
        content = sys.stdin.buffer.read()
    else:
        with open_file_or_pipe(file) as opened:
            content = opened.read()
    with _store() as store:
        done = from_json(store, content)
    for info in done.added:
        print(info.id)
    if done.known:
        say(f"{len(done.known)} of them were here already.")


@history_app.command("delete")
def delete(
    conversations: Ids,
    for_good: Annotated[
        bool, typer.Option("--for-good", help="Remove it with its pictures; no undo.")
    ] = False,
) -> None:
    """Delete conversations; 'restore' brings them back."""
    with _store() as store:
        for info in [_find_anywhere(store, one) if for_good else store.find(one) for one in conversations]:
            title = sanitize_line(info.title, 60) or "(empty)"
            if for_good:
                store.purge(info.id)
                say(f"Removed {title}.")
            else:
                store.delete(info.id)
                say(f"Deleted {title}; `minigpt4 history restore {info.id[:SHOWN_ID]}` brings it back.")


@history_app.command("restore")
def restore(conversations: Ids) -> None:
    """Bring deleted conversations back."""
    with _store() as store:
        for info in [store.find(one, among_deleted=True) for one in conversations]:
            store.undelete(info.id)


@history_app.command("rename")
def rename(
    conversation: Id, title: Annotated[list[str], typer.Argument(metavar="TITLE", help="The new title.")]
) -> None:
    """Give a conversation another title."""
    with _store() as store:
        store.rename(store.find(conversation).id, " ".join(title))


@history_app.command("pin")
def pin(conversations: Ids) -> None:
    """Hold conversations at the top of the list."""
    _pin(conversations, True)


@history_app.command("unpin")
def unpin(conversations: Ids) -> None:
    """Let pinned conversations go back to their place."""
    _pin(conversations, False)


def _pin(conversations: list[str], pinned: bool) -> None:
    with _store() as store:
        for info in [store.find(one) for one in conversations]:
            store.pin(info.id, pinned)


@contextmanager
def _store() -> Iterator[Store]:
    store = Store.open()
    try:
        if store.notice:
            say(store.notice)
        store.recover()
        yield store
    finally:
        store.close()


def _find_anywhere(store: Store, beginning: str) -> ConversationInfo:
    try:
        return store.find(beginning)
    except UsageError:
        return store.find(beginning, among_deleted=True)


def _form(form: str | None, output: Path | None) -> Form:
    if form is None:
        return ENDINGS.get(output.suffix.lower(), "markdown") if output else "markdown"
    for ending, name in ENDINGS.items():
        if form.lower() in (name, ending[1:]):
            return name
    raise UsageError(f"There is no format '{form}'; choose markdown, html or json.")


def _export_markdown(store: Store, infos: Sequence[ConversationInfo], output: Path | None) -> None:
    from minigpt4.tui.history.export import to_markdown

    folder = output or Path()
    if folder.is_file() or folder.suffix.lower() == ".md":
        raise UsageError(
            f"Markdown is written into a folder, with its pictures, and '{folder}' is none; give a folder."
        )
    for info in infos:
        print_path(to_markdown(store, info.id, folder))


def _export_html(store: Store, infos: Sequence[ConversationInfo], output: Path | None) -> None:
    from minigpt4.tui.history.export import file_stem, to_html

    if len(infos) == 1 and not (output and output.is_dir()):
        _write(to_html(store, infos[0].id), output)
        return
    if output is None or output.is_file() or output.suffix.lower() in ENDINGS:
        raise UsageError("Several conversations become a page each; give a folder with --output.")
    for info in infos:
        _write(to_html(store, info.id), output / f"{file_stem(info)}.html")


def _write(text: str, output: Path | None) -> None:
    if output is None or str(output) == "-":
        print(text, end="")
        return
    if output.is_dir():
        raise UsageError(f"'{output}' is a folder; give the name of a file.")
    with replacing(output) as draft:
        draft.write_text(text, encoding="utf-8")
    print_path(output)


def _time(second: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(second))


def _marked(snippet: str) -> str:
    """The snippet, on a terminal with its hits in bold."""
    bold, plain = ("\x1b[1m", "\x1b[22m") if takes_color(sys.stdout) else ("", "")
    parts = snippet.replace(HIT_END, HIT).split(HIT)
    return "".join(
        f"{bold}{_bare(part)}{plain}" if number % 2 else _bare(part) for number, part in enumerate(parts)
    )


def _bare(part: str) -> str:
    return sanitize(part).replace("\n", " ")


def _info(info: ConversationInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "title": info.title,
        "created": info.created,
        "updated": info.updated,
        "pinned": info.pinned,
        "messages": info.messages,
    }


def _message(message: StoredMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "role": message.role,
        "text": message.text,
        "state": message.state,
        "created": message.created,
        "stats": dict(message.stats),
        "pictures": [{"name": one.name, "path": str(one.path)} for one in message.pictures],
    }


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "conversation": hit.conversation,
        "title": hit.title,
        "message": hit.message_id,
        "role": hit.role,
        "created": hit.created,
        "snippet": hit.snippet.replace(HIT, "").replace(HIT_END, ""),
    }


def _print_json(value: object) -> None:
    print(json_text(value, indent=2))
