"""One HTML page of a report: scores, pictures, answers and verdicts; it loads no other resources.

Everything in a run is untrusted, so all of it is escaped, and the page's content security policy
allows only its own script and style, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from minigpt4.train.evaluate.report.cards import KINDS, Answer, Asked, Card, cards
from minigpt4.train.evaluate.report.pictures import FoundPictures
from minigpt4.train.evaluate.report.report import Report
from minigpt4.train.evaluate.report.tables import HOW_TO_READ, Table, run_table, score_table
from minigpt4.train.evaluate.suite import Verdict

_FOLDER = Path(__file__).parent

LABEL = 20
"""Lists whose texts have at most this many characters are shown on one line."""


def as_page(report: Report, pictures: FoundPictures) -> str:
    """The page as text, to be written in UTF-8."""
    template, style, script = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    shown = cards(report.runs)
    questions = [question for card in shown for question in card.questions]
    notes = [*report.notes, *_picture_notes(pictures)]
    scores = [_notes(notes)]
    for suite in report.suites:
        scores += [_table(score_table(suite), suite.name), _notes(suite.notes)]
    return Template(template).substitute(
        title=f"Evaluation: {_text(', '.join(dict.fromkeys(suite.name for suite in report.suites)))}",
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        scores="\n".join(scores),
        how_to_read=_text(HOW_TO_READ),
        runs=_table(run_table(report), "Runs"),
        choices=_choices(report, questions),
        count=f"{len(questions)} questions about {len(shown)} pictures",
        pictures="\n".join(_card(card, pictures.jpegs.get(card.digest)) for card in shown),
    )


def _hash(content: str) -> str:
    """The hash by which a content security policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _text(text: object) -> str:
    """Any text as HTML; control codes, which HTML does not allow, become question marks.

    So do bidirectional control characters, with which an answer could reorder the words around it.
    """
    return escape(
        "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in str(text))
    )


def _picture_notes(pictures: FoundPictures) -> list[str]:
    notes = list(pictures.unreadable)
    if pictures.missing:
        some = ", ".join(pictures.missing[:5]) + (", ..." if len(pictures.missing) > 5 else "")
        notes.append(f"{len(pictures.missing)} pictures were not found: {some}.")
    return notes


def _notes(notes: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(note)}</li>' for note in notes)}</ul>" if notes else ""


def _table(table: Table, caption: str) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.head)
    rows = ""
    for name, *cells in table.rows:
        others = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        rows += f'<tr><th scope="row">{_text(name)}</th>{others}</tr>'
    # A table wider than the window scrolls; by keyboard only if it can have the focus.
    return (
        f'<div class="scroll" role="region" aria-label="{_text(caption)}" tabindex="0"><table>'
        f"<caption>{_text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _choices(report: Report, questions: Sequence[Asked]) -> str:
    """The filter fields, with only the kinds that occur."""
    kinds = {kind for question in questions for kind in question.kinds}
    options = [("", "all"), *((kind, name) for kind, name in KINDS.items() if kind in kinds)]
    fields = [_select("kind", "With", options)]
    if len(report.suites) > 1:
        fields.append(
            _select("suite", "Suite", [("", "all")] + [(one.name, one.name) for one in report.suites])
        )
    return "\n".join(fields)


def _select(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    shown = "".join(f'<option value="{_text(value)}">{_text(text)}</option>' for value, text in options)
    return f'<label>{label} <select id="{name}">{shown}</select></label>'


def _card(card: Card, jpeg: bytes | None) -> str:
    name = _text(card.photo)
    if jpeg is None:
        picture = f'<p class="nothing">The picture {name} was not found.</p>'
    else:
        source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        picture = f'<img src="{source}" alt="The picture {name}" loading="lazy">'
    known = card.known
    questions = "".join(_question(asked, known) for asked in card.questions)
    return (
        f'<article data-name="{name}" aria-label="{name}"><div><h3>{name}</h3>{picture}{_truth(known)}</div>'
        f"<div>{questions}</div></article>"
    )


def _question(asked: Asked, known: Mapping[str, Any]) -> str:
    truth = {name: value for name, value in asked.truth.items() if name not in known}
    asks = _text(asked.prompt) or '<span class="quiet">no question, only the picture</span>'
    return (
        f'<section class="question" data-suite="{_text(asked.suite)}" data-wrong="{asked.wrong}" '
        f'data-length="{asked.length}" data-kinds="{" ".join(asked.kinds)}">'
        f"<h4>{asks}</h4>{_truth(truth)}{''.join(map(_answer, asked.answers))}</section>"
    )


def _truth(truth: Mapping[str, Any]) -> str:
    known = "".join(
        f"<div>{_text(name.replace('_', ' '))}: {_value(value)}</div>" for name, value in truth.items()
    )
    return f'<div class="truth">{known}</div>' if known else ""


def _value(value: Any) -> str:
    if isinstance(value, list):
        if value and all(isinstance(one, str) and len(one) <= LABEL for one in value):
            return _text(", ".join(value))
        return f"<ul>{''.join(f'<li>{_value(one)}</li>' for one in value)}</ul>" if value else "none"
    if isinstance(value, dict):
        return f"<ul>{''.join(f'<li>{_text(name)}: {_value(one)}</li>' for name, one in value.items())}</ul>"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    return _text(value)


def _answer(answer: Answer) -> str:
    record = answer.record
    if record.error:
        said = f'<p class="nothing">No answer: {_text(record.error)}</p>'
    else:
        said = f"<blockquote>{_text(record.answer) or '(empty)'}</blockquote>"
    marks = "".join(_marks(answer))
    return (
        f'<div class="answer"><p class="quiet">{_text(answer.run)}</p>{said}'
        f"{f'<ul class=marks>{marks}</ul>' if marks else ''}</div>"
    )


def _marks(answer: Answer) -> Iterator[str]:
    flaws = [mark for mark in answer.marks if mark.better == "lower"]
    # Most answers lack most of a suite's flaws; listing each absent one would hide the others.
    absent = [mark for mark in flaws if not mark.is_wrong] if len(flaws) > 1 else []
    if absent and len(absent) == len(flaws):
        yield f'<li class="fine">none of {len(flaws)} flaws</li>'
    for mark in answer.marks:
        if mark in absent:
            continue
        said = ("yes" if mark.hits else "no") if mark.tries == 1 else f"{mark.hits:g} of {mark.tries:g}"
        sign, kind = ("\N{BALLOT X} ", "bad") if mark.is_wrong else ("", "fine")
        yield f'<li class="{kind}">{sign}{_text(mark.name)}: {said}</li>'
    for verdict in answer.verdicts:
        yield f"<li>{_text(verdict.judge)}, {_text(verdict.question)}: {_text(_words(verdict))}</li>"


def _words(verdict: Verdict) -> str:
    if verdict.value is None:
        return f"unclear ({verdict.words})"
    if verdict.value in (0, 1):
        return "yes" if verdict.value else "no"
    return f"{verdict.value:g}"
