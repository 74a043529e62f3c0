"""`minigpt4 doctor`: a line for each check, with advice unless it is ok."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from minigpt4.tui.terminal.ansi import RESET, takes_color
from minigpt4.tui.terminal.messages import printable
from minigpt4.tui.terminal.results import json_text

PAINT = {"ok": "\x1b[32m", "warning": "\x1b[33m", "problem": "\x1b[31m"}
WIDTH = max(map(len, PAINT))


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check everything that minigpt4 depends on, and say how to fix what is wrong.

    A warning is something that works less well than it could; with a problem the exit code is 1. JSON is a
    list of objects, one a line, whose keys are name, state (ok, warning or problem), detail, and advice,
    the way out, which is empty if all is well.
    """
    from minigpt4.tui.doctor.checks import examine
    from minigpt4.tui.doctor.finding import Finding

    found: list[Finding] = []
    for finding in examine():
        found.append(finding)
        if not as_json:
            print(f"{_painted(finding.state)}  {finding.name:<14}  {printable(finding.detail)}", flush=True)
            if finding.advice:
                print(f"{'':<{WIDTH}}  {'':<14}  -> {printable(finding.advice)}", flush=True)
    if as_json:
        print(json_text([asdict(finding) for finding in found], indent=2))
    if any(finding.state == "problem" for finding in found):
        raise typer.Exit(1)


def _painted(state: str) -> str:
    shown = f"{state:<{WIDTH}}"
    return f"{PAINT[state]}{shown}{RESET}" if takes_color(sys.stdout) else shown
