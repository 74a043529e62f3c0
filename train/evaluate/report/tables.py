"""The tables of a report, as texts for a terminal, as Markdown, and as cells for the page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minigpt4.train.evaluate.report.compare import Difference
from minigpt4.train.evaluate.report.report import Report, SuiteReport
from minigpt4.train.evaluate.report.reported_run import ReportedRun
from minigpt4.train.evaluate.scores import Score

NONE = "-"
"""Stands for a missing figure."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~!&])")


@dataclass(frozen=True)
class Table:
    """Cells of one line each; `head` names the columns."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def score_table(suite: SuiteReport) -> Table:
    """A row for each score, a column for each run, for the paper and for each difference."""
    of_runs = [{score.name: score for score in run.scores} for run in suite.runs]
    has_paper = any(score.paper is not None for run in suite.runs for score in run.scores)
    head = [
        "score",
        *(run.name for run in suite.runs),
        *(["paper"] if has_paper else []),
        *(f"{one.second.name} minus {one.first.name}" for one in suite.comparisons if one.pairs),
    ]
    rows = [["answers", *map(_answers, suite.runs)]]
    for name in suite.score_names:
        row = [name, *(_score(scores.get(name)) for scores in of_runs)]
        a_score = next(scores[name] for scores in of_runs if name in scores)
        if has_paper:
            row.append("" if a_score.paper is None else figure(a_score, a_score.paper))
        row += [_difference(a_score, one.differences.get(name)) for one in suite.comparisons if one.pairs]
        rows.append(row)
    width = len(head)
    return Table([one_line(cell) for cell in head], [_padded(row, width) for row in rows])


def run_table(report: Report) -> Table:
    """The facts about each run: a row for each fact, a column for each run."""
    facts = [_facts(run) for run in report.runs]
    names = list(dict.fromkeys(name for some in facts for name in some))
    head = ["", *(f"{run.name}, {run.suite.name}" for run in report.runs)]
    rows = [[name, *(some.get(name, "") for some in facts)] for name in names]
    return Table([one_line(cell) for cell in head], [_padded(row, len(head)) for row in rows])


def as_text(table: Table) -> str:
    """Columns side by side."""
    rows = [table.head, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.head))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def as_markdown(report: Report) -> str:
    """The whole report; names are escaped, so that they are shown literally."""
    parts = ["# Evaluation\n", *_markdown_notes(report.notes)]
    for suite in report.suites:
        parts += [f"## {escaped(suite.name)}\n", _markdown_table(score_table(suite))]
        parts += _markdown_notes(suite.notes)
    parts += ["## Runs\n", _markdown_table(run_table(report)), HOW_TO_READ + "\n"]
    return "\n".join(parts)


HOW_TO_READ = (
    "In parentheses: 95 % intervals. Those of rates are Wilson's; those of other scores and of differences "
    "are percentiles of a bootstrap over pictures (1,000 resamples, the same for both runs). p is that of "
    "McNemar's exact test."
)


def figure(score: Score, value: float) -> str:
    """A value of the score, as it is printed."""
    if value != value:
        return NONE
    return f"{100 * value:.1f} %" if score.is_percent else f"{value:.{score.digits}f}"


def one_line(text: str) -> str:
    """The text on one line, with a question mark for each unprintable character."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def escaped(text: str) -> str:
    """The text on one line of Markdown, without any mark-up of its own."""
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def _answers(run: ReportedRun) -> str:
    return f"{len(run.records)} of {run.questions}, incomplete" if run.is_incomplete else str(run.questions)


def _score(score: Score | None) -> str:
    if score is None:
        return NONE
    return figure(score, score.value) + _between(score, score.interval)


def _difference(score: Score, one: Difference | None) -> str:
    if one is None or one.value != one.value:
        return NONE
    sign = "+" if one.value > 0 else ""
    shown = sign + figure(score, one.value + 0.0) + _between(score, one.interval)
    if one.p_value is None:
        return shown
    return f"{shown}, p {'< 0.001' if one.p_value < 0.001 else f'= {one.p_value:.3f}'}"


def _between(score: Score, interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({figure(score, interval[0])} to {figure(score, interval[1])})"


def _facts(run: ReportedRun) -> dict[str, str]:
    facts = {"folder": str(run.path)}
    for part in ("model", "options", "sampling", "versions"):
        values = run.header.get(part)
        if isinstance(values, Mapping):
            facts |= {
                f"{part}: {name}": value if isinstance(value, str) else json.dumps(value)
                for name, value in values.items()
                if value is not None
            }
    return facts


def _padded(row: Sequence[str], width: int) -> list[str]:
    return [*map(one_line, row), *([""] * (width - len(row)))]


def _markdown_notes(notes: Sequence[str]) -> list[str]:
    return ["".join(f"- {escaped(note)}\n" for note in notes)] if notes else []


def _markdown_table(table: Table) -> str:
    rows = [table.head, ["---"] * len(table.head), *table.rows]
    lines = [rows[1] if row is rows[1] else [escaped(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
