"""One setting of the schema: what it may be, and how a text or a value from a file becomes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minigpt4.core.text import nearest

PREFIX = "MINIGPT4_"
"""What our variables of the environment begin with."""

TRUTH = dict.fromkeys(("1", "yes", "on", "true"), True) | dict.fromkeys(("0", "no", "off", "false"), False)
"""How the environment, and a person who types, say true and false."""


@dataclass(frozen=True)
class Entry:
    """One setting of the schema. No `choices`: any of its kind from `least` to `most` (None: no bound)."""

    name: str
    default: Any
    about: str
    kind: type
    group: str
    choices: tuple[str, ...] = ()
    form: re.Pattern[str] | None = None
    least: float | None = None
    most: float | None = None
    per_conversation: bool = False

    @property
    def variable(self) -> str:
        """The environment's name for it."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command line's name for it."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_optional(self) -> bool:
        """Whether it may be None."""
        return self.default is None

    def expected(self) -> str:
        """What it may be, as the end of a sentence that begins with "it must be"."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.form is not None:
            return "auto, cpu, cuda or cuda:N"
        if self.kind is bool:
            return "true or false"
        if self.kind is dict:
            return "a table of actions, each with a list of keys"
        if self.kind is str:
            return "a text"
        number = "a whole number" if self.kind is int else "a number"
        bounds = f"of {self.least} or more" if self.most is None else f"from {self.least} to {self.most}"
        return f"{number} {bounds}"

    def checked(self, value: object) -> Any:
        """The value as `Settings` holds it; raises ValueError with the rest of a sentence ("is not ...")."""
        found = self._converted(value)
        if found is None and value is not None:
            near = nearest(str(value), self.choices) if self.choices else None
            hint = f"; did you mean '{near}'?" if near else "."
            raise ValueError(f"is not {self.expected()}{hint}")
        if found is None and not self.is_optional:
            raise ValueError(f"is missing; it must be {self.expected()}.")
        return found

    def parsed(self, text: str) -> Any:
        """The value that a text stands for, as the environment and the settings screen have it.

        Nothing at all stands for None, or for the default where None cannot be. Raises as `checked`.
        """
        text = text.strip()
        if not text:
            return self.default
        if self.kind is bool:
            return self.checked(TRUTH.get(text.lower(), text))
        if self.kind in (int, float):
            try:
                return self.checked(self.kind(text))
            except (ValueError, OverflowError):
                return self.checked(text)
        return self.checked(_key_table(text) if self.kind is dict else text)

    def _converted(self, value: Any) -> Any:
        """None where the value is not of the kind, or out of its bounds."""
        if self.kind is dict:
            return _checked_keys(value)
        if isinstance(value, bool) != (self.kind is bool):
            return None
        if self.kind is float and isinstance(value, int) and abs(value) < 2**63:
            value = float(value)
        if not isinstance(value, self.kind) or (self.choices and value not in self.choices):
            return None
        if isinstance(value, str):
            return value if self.form is None or self.form.fullmatch(value) else None
        # Written so that nan, which compares false with everything, is refused.
        number: Any = value
        inside = (self.least is None or number >= self.least) and (self.most is None or number <= self.most)
        return number if inside or self.kind is bool else None


def _key_table(text: str) -> dict[str, list[str]]:
    """`send=ctrl+s,f2; quit=ctrl+x`, as the environment has keys."""
    table = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        action, _, keys = part.partition("=")
        table[action.strip()] = [key.strip() for key in keys.split(",") if key.strip()]
    return table


def _checked_keys(value: object) -> dict[str, tuple[str, ...]] | None:
    if not isinstance(value, Mapping):
        return None
    table: dict[str, tuple[str, ...]] = {}
    for action, keys in value.items():
        listed = [keys] if isinstance(keys, str) else keys
        if not isinstance(listed, list | tuple) or not all(isinstance(key, str) for key in listed):
            return None
        table[str(action)] = tuple(listed)
    return table


def as_written(value: object) -> str:
    """A wrong value for a sentence about it: as in the file, and short."""
    try:
        text = repr(value)
    except ValueError:
        # Python writes no number of thousands of digits.
        return "that number"
    return text if len(text) <= 80 else f"{text[:79]}…"
