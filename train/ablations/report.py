"""The report of the ablations, made from the evaluations' folders alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from minigpt4.train.ablations.plan import AblationRun, Column, Plan, Row
from minigpt4.train.evaluate.run_folder import EvalRun, short_places
from minigpt4.train.evaluate.scores import Score, as_json
from minigpt4.train.evaluate.suites import suite_named


def as_record(run: AblationRun, plan: Plan) -> dict[str, Any]:
    """The tables as JSON values; raises UsageError or DataError if an evaluation is missing or damaged."""
    full = plan.recipe(1)
    why = {model.name: plan.left_out(model) for model in plan.tables.model}
    return {
        "bundle": plan.bundle,
        "steps": plan.steps or full.steps,
        "recipe_steps": full.steps,
        "batch_size": full.batch_size,
        "settings": run.header["settings"],
        "limit": run.header["limit"],
        "data": short_places(run.header, "data"),
        "eval_data": short_places(run.header, "eval_data"),
        "versions": run.header["versions"],
        "columns": [_title(column) for column in plan.tables.column],
        "tables": [
            {
                "table": table,
                "rows": [
                    {
                        "row": row.name,
                        "left_out": why[row.model],
                        "scores": [] if why[row.model] else _scores(run, plan, row),
                        "paper": dict(row.paper),
                    }
                    for row in rows
                ],
            }
            for table, rows in groupby(plan.tables.row, key=lambda row: row.table)
        ],
    }


def as_markdown(record: Mapping[str, Any]) -> str:
    """The tables as a page."""
    columns = record["columns"]
    lines = [f"# Ablations of {record['bundle']}", "", _how(record), ""]
    for table in record["tables"]:
        lines += [f"## {table['table']}", ""]
        lines += [_line(["", *columns, "the paper"])]
        lines += [_line(["---", *("---:" for _ in columns), "---"])]
        notes = []
        for row in table["rows"]:
            why = row["left_out"]
            cells = ["-" for _ in columns] if why else [_cell(score) for score in row["scores"]]
            lines.append(_line([row["row"], *cells, _paper(row["paper"])]))
            notes += [f"- {row['row']}: left out, {why}."] if why else []
        lines += ["", *notes, *([""] if notes else [])]
    return "\n".join(lines).rstrip() + "\n"


def _how(record: Mapping[str, Any]) -> str:
    settings = ", ".join(f"`{one}`" for one in record["settings"])
    changed = f" Both recipes were changed: {settings}." if settings else ""
    return (
        f"Stage 1 has {record['steps']} steps of {record['batch_size']} pictures of "
        f"{', '.join(record['data'])} (its recipe: {record['recipe_steps']} steps), and stage 2 is as much "
        f"shorter.{changed} Evaluated on {record['limit']} pictures at most of "
        f"{', '.join(record['eval_data'])}, from which no row learnt; brackets hold 95 % intervals. The "
        "paper's figures are of its own models and measures: compare the order of the rows, not the values."
    )


def _scores(run: AblationRun, plan: Plan, row: Row) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Score]] = {}
    for name in plan.suites():
        evaluation = EvalRun.open(run.evaluation(row.model, row.stage, name))
        answered = [record for record in evaluation.records() if not record.error]
        scores = suite_named(name).scores(answered, evaluation.verdicts())
        found[name] = {score.name: score for score in scores}
    chosen = [found[column.suite][column.score] for column in plan.tables.column]
    return [as_json(score) | {"digits": score.digits} for score in chosen]


def _cell(score: Mapping[str, Any]) -> str:
    digits = score["digits"]
    if score["value"] is None:
        return "-"
    if "interval_95" not in score:
        return f"{score['value']:.{digits}f}"
    low, high = score["interval_95"]
    return f"{score['value']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _title(column: Column) -> str:
    return column.score if column.suite in ("captions", "subjects") else f"{column.suite}, {column.score}"


def _paper(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in figures.items())


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
