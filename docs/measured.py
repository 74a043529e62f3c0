"""Measurements of mini, read from the files of docs/runs, as cells and tables for the pages.

docs/runs/NAME.json         what `minigpt4 eval report RUN --json` prints for a run
docs/runs/ablations.json    the report.json of `minigpt4 eval ablations`
docs/runs/curate.json       what `minigpt4 curate --json` prints, without the examples

None of them holds a picture or an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNS = Path(__file__).with_name("runs")
NONE = "-"


@dataclass(frozen=True)
class Measured:
    """A run of an evaluation."""

    suite: str
    run: Mapping[str, Any]

    @classmethod
    def read(cls, name: str, folder: Path = RUNS) -> Measured | None:
        """The run of that name; None if it has not been measured."""
        record = record_of(name, folder)
        if record is None:
            return None
        (suite,) = record["suites"]
        (run,) = suite["runs"]
        return cls(suite["suite"], run)

    @property
    def command(self) -> str:
        """The command that made the run."""
        words = ["minigpt4", "eval", self.suite, "--bundle", self.run["model"]["bundle"]]
        words += [word for place in self.run["projection"] for word in ("--projection", place)]
        words += [word for place in self.run["data"] for word in ("--data", place)]
        words += [word for name, value in self.run["options"].items() for word in _option(name, value)]
        return " ".join([*words, "--output", "RUN"])

    @property
    def facts(self) -> str:
        """The numbers of answers and pictures, the date, the model's form and the versions."""
        model = self.run["model"]
        versions = ", ".join(f"{name} {version}" for name, version in self.run["versions"].items())
        return (
            f"{self.run['answers']} answers about {self.run['pictures']} pictures, {self.run['date']}, "
            f"{model['quant']} on {model['device']}, {versions}"
        )

    def cell(self, name: str) -> str:
        """A score with its interval."""
        score = next((one for one in self.run["scores"] if one["name"] == name), None)
        if score is None or score["value"] is None:
            return NONE
        if "interval_95" not in score:
            return number(score["value"])
        low, high = score["interval_95"]
        return f"{number(score['value'])} ({number(low)} to {number(high)})"


def record_of(name: str, folder: Path = RUNS) -> dict[str, Any] | None:
    """A file of docs/runs; None if there is none."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def number(value: float) -> str:
    """The value as text: three decimals below one, fewer above."""
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
    return f"{round(value, digits):g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# -- the tables of mini's card --------------------------------------------------------------------

CHAIR = {
    "made up, of what is named (CHAIRi)": "CHAIRi",
    "answers that make something up (CHAIRs)": "CHAIRs",
    "named, of what is there": "recall",
    "words": "words",
}
PRESENCE = {
    "accuracy, random negatives": "random: accuracy",
    "accuracy, popular negatives": "popular: accuracy",
    "accuracy, adversarial negatives": "adversarial: accuracy",
    "accuracy, all": "all: accuracy",
    "F1, all": "all: F1",
    "share of yes": "all: yes share",
    "neither yes nor no, which counts as yes": "neither yes nor no",
}
COUNTING = {
    "exact": "exact",
    "exact, mean over true numbers": "exact, mean over numbers",
    "within one": "within one",
    "within one, mean over true numbers": "within one, mean over numbers",
}
TRUE_NUMBERS = ("1", "2", "3 or 4", "5 or more")
FORM = {
    "description failed": "detail: failed",
    "words of the description": "detail: mean length (words)",
    "poem failed": "poem: failed",
    "words of the poem": "poem: mean length (words)",
}


def objects_tables(folder: Path = RUNS) -> str:
    """What mini makes up, finds and counts."""
    parts = []
    if chair := Measured.read("chair", folder):
        rows = [
            [label, *(chair.cell(f"{kind}: {score}") for kind in ("short", "long"))]
            for label, score in CHAIR.items()
        ]
        parts.append(_captioned(chair, table(["", "short description", "long description"], rows)))
    if presence := Measured.read("presence", folder):
        rows = [[label, presence.cell(score)] for label, score in PRESENCE.items()]
        parts.append(_captioned(presence, table(["", "mini"], rows)))
    if counting := Measured.read("counting", folder):
        rows = [
            [label, counting.cell(score), counting.cell(f"{score}, always 'one'")]
            for label, score in COUNTING.items()
        ]
        rows += [[f"exact, of {true}", counting.cell(f"exact, of {true}"), ""] for true in TRUE_NUMBERS]
        rows.append(["no number in the answer", counting.cell("no number in the answer"), ""])
        parts.append(_captioned(counting, table(["", "mini", 'always saying "one"'], rows)))
    return "\n".join(parts)


def form_table(folder: Path = RUNS) -> str:
    """How often mini's long answers fail in form, before and after stage 2."""
    before, after = Measured.read("failures-stage1", folder), Measured.read("failures", folder)
    if before is None or after is None:
        return ""
    rows = [[label, before.cell(score), after.cell(score)] for label, score in FORM.items()]
    return _captioned(after, table(["", "before stage 2", "after stage 2"], rows))


def filled(text: str, name: str, content: str) -> str:
    """The text with the part between the marks of that name replaced; raises ValueError without marks."""
    begin, end = f"<!-- {name}: generated by docs/make.py -->\n", f"<!-- end of {name} -->\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"There are no marks of '{name}'.")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text, count=1)


def _captioned(run: Measured, content: str) -> str:
    return f"`{run.command}`: {run.facts}.\n\n{content}"


def _option(name: str, value: Any) -> list[str]:
    is_default = value == {"stage": 2, "seed": 0}.get(name)
    return [] if value is None or is_default else [f"--{name.replace('_', '-')}", str(value)]
