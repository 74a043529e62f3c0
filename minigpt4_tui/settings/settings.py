"""The settings: one typed schema for the file, the environment, the flags, the settings screen and the docs.

`settings.toml` in the configuration folder is the weakest, then `MINIGPT4_...` in the environment, then what
a conversation was given for itself, then the flags of the command line. What is wrong in a file or in
the environment is reported once, as data, and the next weaker value applies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from minigpt4.core.errors import UsageError
from minigpt4.core.text import nearest, suggestion
from minigpt4.tui.settings.field import PREFIX, Entry, as_written
from minigpt4.tui.settings.file import SettingsError, read_settings_file, settings_path, write_setting

__all__ = [
    "Entry",
    "Loaded",
    "Origin",
    "Settings",
    "SettingsError",
    "entry",
    "load_settings",
    "save_setting",
    "schema",
    "settings_path",
]

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
Origin = Literal["default", "file", "environment", "conversation", "flag"]
T = TypeVar("T")


def _setting(default: T, about: str, kind: type, **facts: Any) -> T:
    """A field of `Settings` with the attributes of its `Entry`."""
    return field(default=default, metadata={"about": about, "kind": kind, **facts})


_LOOK: dict[str, Any] = {"group": "Look"}
_MODEL: dict[str, Any] = {"group": "Model", "per_conversation": True}
_ANSWERS: dict[str, Any] = {"group": "Answers", "per_conversation": True}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, each with its meaning; None leaves it to the bundle or the machine."""

    theme: str = _setting("harbour", "Colour theme: one that is shipped, or one of your own.", str, **_LOOK)
    images: str = _setting(
        "auto",
        "How pictures are drawn; auto asks the terminal what it supports.",
        str,
        choices=("auto", "kitty", "sixel", "halfblock", "off"),
        **_LOOK,
    )
    reduced_motion: bool = _setting(False, "Nothing slides, fades or blinks.", bool, **_LOOK)
    sidebar: str = _setting(
        "auto",
        "The list of conversations; auto shows it if the terminal is wide enough.",
        str,
        choices=("auto", "open", "closed"),
        **_LOOK,
    )
    bundle: str = _setting("mini", "Model bundle.", str, **_MODEL)
    backend: str = _setting(
        "auto",
        "Backend of the language model; auto uses llama.cpp if it is installed.",
        str,
        choices=("auto", "torch", "llamacpp"),
        **_MODEL,
    )
    device: str = _setting("auto", "Device: auto, cpu, cuda or cuda:N.", str, form=DEVICE, **_MODEL)
    quant: str = _setting(
        "auto",
        "Quantisation of the language model; auto uses what is installed and suits the device.",
        str,
        choices=("auto", "fp32", "bf16", "fp16", "int8", "nf4", "F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0"),
        **_MODEL,
    )
    gpu_layers: int | None = _setting(
        None, "Layers that llama.cpp puts on the GPU; all of them if not set.", int, least=0, **_MODEL
    )
    threads: int | None = _setting(None, "Number of CPU threads.", int, least=1, **_MODEL)
    context: int | None = _setting(
        None, "Context length in tokens, if shorter than the bundle's; saves memory.", int, least=1, **_MODEL
    )
    max_tokens: int | None = _setting(
        None,
        "Maximum length of an answer in tokens; a word is one or two.",
        int,
        least=1,
        most=100_000,
        **_ANSWERS,
    )
    temperature: float | None = _setting(
        None, "Sampling temperature; 0 is greedy.", float, least=0, most=10, **_ANSWERS
    )
    top_p: float | None = _setting(
        None,
        "Nucleus sampling: the smallest set of tokens with this probability.",
        float,
        least=0.001,
        most=1,
        **_ANSWERS,
    )
    repetition_penalty: float | None = _setting(
        None, "Over 1 discourages tokens that were already used.", float, least=0.01, most=10, **_ANSWERS
    )
    seed: int | None = _setting(
        None,
        "Seed of sampling; the same seed gives the same answer.",
        int,
        least=0,
        most=2**63 - 1,
        **_ANSWERS,
    )
    system_prompt: str | None = _setting(
        None,
        "System prompt, for models whose template has one.",
        str,
        **_ANSWERS,
    )
    keys: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata={
            "about": 'Your own key bindings, as in send = ["alt+enter"]; [] unbinds an action.',
            "kind": dict,
            "group": "Keys",
        },
    )


def schema() -> list[Entry]:
    """Every setting, in the order of the screen. The themes are those that exist now."""
    return [_entry(found) for found in fields(Settings)]


def entry(name: str) -> Entry:
    """The setting of that name; raises UsageError, with the nearest name, if there is none."""
    for found in fields(Settings):
        if found.name == name:
            return _entry(found)
    raise UsageError(f"There is no setting '{name}'; {_nearest(name)}")


def _entry(found: Field[Any]) -> Entry:
    facts = dict(found.metadata)
    if found.name == "theme":
        from minigpt4.themes import theme_names

        facts["choices"] = tuple(theme_names())
    default = {} if found.default is MISSING else found.default
    return Entry(name=found.name, default=default, **facts)


def _nearest(name: str) -> str:
    return suggestion(name.replace("-", "_"), [found.name for found in fields(Settings)])


@dataclass(frozen=True)
class Loaded:
    """The settings that hold, where each came from, and what was wrong, as sentences to show once."""

    settings: Settings
    origins: Mapping[str, Origin]
    problems: tuple[str, ...] = ()

    def for_conversation(self, own: Mapping[str, object]) -> Loaded:
        """With a conversation's own settings under the flags; invalid values are reported and skipped."""
        layer = {name: value for name, value in own.items() if self.origins.get(name) != "flag"}
        known = {found.name: found for found in schema() if found.per_conversation}
        problems = list(self.problems)
        values: dict[str, Any] = {}
        for name, value in layer.items():
            try:
                if name in known:
                    values[name] = known[name].checked(value)
            except ValueError as fault:
                problems.append(f"In this conversation's settings, {name} = {as_written(value)} {fault}")
        return self._over(values, "conversation", problems)

    def with_value(self, name: str, value: object) -> Loaded:
        """With one setting changed, as the settings screen does. Raises UsageError for a wrong value."""
        return self._over({name: _demanded(entry(name), name, value)}, "file", list(self.problems))

    def _over(self, values: Mapping[str, Any], origin: Origin, problems: list[str]) -> Loaded:
        origins = {**self.origins, **dict.fromkeys(values, origin)}
        return Loaded(replace(self.settings, **values), origins, tuple(problems))


def load_settings(
    flags: Mapping[str, object] = MappingProxyType({}), environment: Mapping[str, str] | None = None
) -> Loaded:
    """The settings from the file, the environment and the flags (None: not given), the last one winning.

    Errors in the file or the environment become problems, not exceptions. Raises UsageError for an
    invalid flag, because whoever typed it can correct it.
    """
    entries = {found.name: found for found in schema()}
    problems: list[str] = []
    values: dict[str, Any] = {name: found.default for name, found in entries.items()}
    origins: dict[str, Origin] = dict.fromkeys(entries, "default")
    environment = os.environ if environment is None else environment
    layers: tuple[tuple[Origin, Iterator[tuple[str, Any]]], ...] = (
        ("file", _from_file(entries, problems)),
        ("environment", _from_environment(entries, environment, problems)),
        ("flag", _from_flags(entries, flags)),
    )
    for origin, layer in layers:
        for name, value in layer:
            values[name] = {**values[name], **value} if name == "keys" else value
            origins[name] = origin
    return Loaded(Settings(**values), origins, tuple(problems))


def save_setting(name: str, value: Any) -> None:
    """Write one setting ("theme", or "keys.send") to the file, comments kept; None takes it out.

    Raises UsageError for a value that it cannot be, SettingsError where the file cannot be changed.
    """
    table, _, action = name.partition(".")
    found = entry(table)
    if value is not None:
        value = _demanded(found, name, {action: value} if action else value)
    write_setting(settings_path(), name, value[action] if action and value is not None else value)


def _demanded(found: Entry, name: str, value: object) -> Any:
    try:
        return found.checked(value)
    except ValueError as fault:
        raise UsageError(f"{name} = {as_written(value)} {fault}") from fault


def _from_file(entries: Mapping[str, Entry], problems: list[str]) -> Iterator[tuple[str, Any]]:
    path = settings_path()
    try:
        table = read_settings_file(path)
    except SettingsError as problem:
        problems.append(str(problem))
        return
    for name, value in table.items():
        where = f"In {path}, {name} = {as_written(value)}"
        if name not in entries:
            problems.append(f"{where} is not a setting; {_nearest(name)}")
            continue
        try:
            yield name, entries[name].checked(value)
        except ValueError as fault:
            problems.append(f"{where} {fault}")


def _from_environment(
    entries: Mapping[str, Entry], environment: Mapping[str, str], problems: list[str]
) -> Iterator[tuple[str, Any]]:
    by_variable = {found.variable: found for found in entries.values()}
    for variable, text in sorted(environment.items()):
        if variable in by_variable and text.strip():
            try:
                yield by_variable[variable].name, by_variable[variable].parsed(text)
            except ValueError as fault:
                problems.append(f"In the environment, {variable} = {as_written(text)} {fault}")
        elif variable.startswith(PREFIX) and variable not in by_variable:
            # Only what is almost one of ours: MINIGPT4_HOME is no setting, and no slip.
            name = variable.removeprefix(PREFIX).lower()
            if near := nearest(name, entries, cutoff=0.75):
                meant = entries[near].variable
                problems.append(f"In the environment, {variable} is not a setting; did you mean {meant}?")


def _from_flags(entries: Mapping[str, Entry], flags: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    for name, value in flags.items():
        if value is not None:
            try:
                yield name, entries[name].checked(value)
            except ValueError as fault:
                raise UsageError(f"{entries[name].flag} {as_written(value)} {fault}") from fault
