"""`minigpt4 completion SHELL`: the script that a shell reads to complete the commands of minigpt4."""

from __future__ import annotations

from typing import Annotated

import typer

from minigpt4.core.errors import UsageError
from minigpt4.core.text import suggestion
from minigpt4.tui.cli.completion.scripts import SCRIPTS


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the completion script of a shell.

    bash: put  source <(minigpt4 completion bash)  into ~/.bashrc.
    zsh: put  source <(minigpt4 completion zsh)  into ~/.zshrc, after compinit.
    fish: minigpt4 completion fish > ~/.config/fish/completions/minigpt4.fish
    """
    if shell not in SCRIPTS:
        raise UsageError(f"There is no completion for '{shell}'; {suggestion(shell, SCRIPTS)}")
    print(SCRIPTS[shell], end="")
