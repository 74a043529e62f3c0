"""`minigpt4 eval judge RUN [RUN]` without a model: a person judges, one key a verdict."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minigpt4.core.errors import UsageError
from minigpt4.tui.review.judging import judge_in_person, require_terminal
from minigpt4.tui.terminal.messages import say

if TYPE_CHECKING:
    from minigpt4.tui.cli.evaluate.judge import Bench


def judge_by_hand(benches: Sequence[Bench], data: Sequence[str] | None, name: str | None, seed: int) -> None:
    """Show a person the answers they have not judged yet, those of all runs mixed.

    `name` is by default the login name. Raises UsageError for the name of a model that judged a run.
    """
    from minigpt4.train.evaluate.judges.judging import models_of
    from minigpt4.train.evaluate.person import Sitting

    require_terminal()
    judge = _login() if name is None else name.strip()
    if not judge:
        raise UsageError("--name is empty; give a name under which your verdicts are kept.")
    for bench in benches:
        if judge in models_of(bench.run):
            raise UsageError(
                f"'{judge}' is a model that judged '{bench.run.path}'; give your name with --name."
            )
    with Sitting([bench.run for bench in benches], judge, seed) as sitting:
        if sitting.current is None:
            say(f"{judge} has judged everything; with another --name somebody else can judge.")
            return
        pictures = [bench.pictures(data) for bench in benches]
        judge_in_person(sitting, lambda case: pictures[case.run](case.record))


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UsageError("This login has no name; give yours with --name.") from None
