"""The command line: `main` is the console script, `commands` lists the commands, one module each.

Only what the chat's first frame needs is imported here, so typer is not.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing it from typing would add 10 ms to each shell completion
if TYPE_CHECKING:
    from minigpt4.tui.cli.errors import Edge


def main(arguments: list[str] | None = None) -> None:
    """The console script: run the command line and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:2] == ["completion", "--words"] and len(given) > 2 and sys.stdout is not None:
        from minigpt4.tui.cli.completion.words import print_words

        # This runs at every Tab: the imports below would take half of the acceptable delay.
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        print_words(given[2], given[3:])
        sys.exit(0)
    from minigpt4.tui.cli.errors import Edge, fill_closed_streams, run_at_edge

    closed = fill_closed_streams()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A character that the encoding lacks must not abort an answer.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    edge = Edge()
    sys.exit(run_at_edge(lambda: _run(given, closed, edge), edge))


def _run(given: list[str], closed: list[str], edge: Edge) -> int:
    from minigpt4.tui.cli.errors import require_surroundings

    require_surroundings(given, closed)
    if given[:1] == ["chat"] and not any(word.startswith("-") for word in given):
        import gc

        gc.disable()  # see open_app; collecting during the imports before it takes another 7 ms
        from minigpt4.tui.cli.chat.app import chat_without_options, is_at_screen

        # Without options there is nothing to parse, and typer delays the first frame by 25 ms.
        if is_at_screen():
            return chat_without_options(given[1:])
        gc.enable()
    from minigpt4.tui.cli.commands import run_command

    run_command(given, edge)
    return 0
