"""The report of the ablations, made from the evaluations' folders alone."""

from __future__ import annotations

from itertools import groupby

from minigpt4.train.ablations.plan import AblationRun, Column, Plan, Row
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suites import suite_named


def report(run: AblationRun, plan: Plan) -> str:
    """The tables in Markdown; raises UsageError or DataError if an evaluation is missing or damaged."""
    lines = [f"# Ablations of {plan.bundle}", "", _how(run, plan), ""]
    models = {model.name: model for model in plan.tables.model}
    columns = plan.tables.column
    for table, rows in groupby(plan.tables.row, key=lambda row: row.table):
        lines += [f"## {table}", ""]
        lines += [_line(["", *(_title(column) for column in columns), "the paper"])]
        lines += [_line(["---", *("---:" for _ in columns), "---"])]
        notes = []
        for row in rows:
            why = plan.left_out(models[row.model])
            cells = ["-" for _ in columns] if why else _cells(run, plan, row)
            lines.append(_line([row.name, *cells, _paper(row)]))
            notes += [f"- {row.name}: left out, {why}."] if why else []
        lines += ["", *notes, *([""] if notes else [])]
    return "\n".join(lines).rstrip() + "\n"


def _how(run: AblationRun, plan: Plan) -> str:
    full = plan.recipe(1)
    steps = plan.steps or full.steps
    return (
        f"Stage 1 has {steps} steps of {full.batch_size} pictures (its recipe: {full.steps}), and stage 2 is "
        f"as much shorter. Evaluated on {run.header['limit']} pictures at most that no row learnt from; "
        "brackets hold 95 % intervals. The paper's figures are of its own models and measures: compare the "
        "order of the rows, not the values."
    )


def _cells(run: AblationRun, plan: Plan, row: Row) -> list[str]:
    scores: dict[str, dict[str, Score]] = {}
    for name in plan.suites():
        found = EvalRun.open(run.evaluation(row.model, row.stage, name))
        answered = [record for record in found.records() if not record.error]
        scores[name] = {score.name: score for score in suite_named(name).scores(answered, found.verdicts())}
    return [_cell(scores[column.suite][column.score]) for column in plan.tables.column]


def _cell(score: Score) -> str:
    digits = score.digits
    if score.interval is None:
        return f"{score.value:.{digits}f}"
    low, high = score.interval
    return f"{score.value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _title(column: Column) -> str:
    return column.score if column.suite in ("captions", "subjects") else f"{column.suite}, {column.score}"


def _paper(row: Row) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in row.paper.items())


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
