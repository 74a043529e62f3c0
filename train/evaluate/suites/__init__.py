"""The suites by their names."""

from __future__ import annotations

from minigpt4.core.errors import UsageError
from minigpt4.core.text import suggestion
from minigpt4.train.evaluate.suite import Suite
from minigpt4.train.evaluate.suites.captions import Captions
from minigpt4.train.evaluate.suites.chair import Chair
from minigpt4.train.evaluate.suites.counting import Counting
from minigpt4.train.evaluate.suites.coverage import Coverage
from minigpt4.train.evaluate.suites.fluency import Failures, Fluency
from minigpt4.train.evaluate.suites.presence import Presence
from minigpt4.train.evaluate.suites.subjects import Subjects
from minigpt4.train.evaluate.suites.tasks import Tasks
from minigpt4.train.evaluate.suites.vqa import Vqa

SUITES: dict[str, type[Suite]] = {
    kind.name: kind
    for kind in (Captions, Subjects, Fluency, Failures, Coverage, Tasks, Chair, Presence, Counting, Vqa)
}


def suite_named(name: str) -> Suite:
    """The suite of that name; raises UsageError."""
    if name not in SUITES:
        raise UsageError(f"There is no suite '{name}'; {suggestion(name, tuple(SUITES))}")
    return SUITES[name]()
