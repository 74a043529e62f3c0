"""The settings: one typed schema for the file, the environment, the flags, the settings screen and the docs.

`settings.toml` in the configuration folder is the weakest, then `MINIGPT4_...` in the environment, then a
conversation's own settings, then the flags of the command line. Errors in the file or the environment are
reported once, as data, and the next weaker value applies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.dataclass_toml import (
    InvalidValueError,
    as_written,
    check,
    choices,
    expected,
    from_text,
)
from minigpt4.core.text import nearest, suggestion
from minigpt4.tui.settings.file import SettingsError, read_settings_file, settings_path, write_setting

PREFIX = "MINIGPT4_"
"""The beginning of our environment variables."""

Origin = Literal["default", "file", "environment", "conversation", "flag"]
T = TypeVar("T")


def _setting(default: T, about: str, **facts: Any) -> T:
    """A field of `Settings`; `facts` are attributes of its `Entry` and limits for the TOML reader."""
    return field(default=default, metadata={"about": about, **facts})


def _theme_names() -> list[str]:
    from minigpt4.themes import theme_names

    return theme_names()


def _with_key_lists(table: object) -> object:
    """The table of keys, in which an action's only key need not be in a list."""
    if not isinstance(table, Mapping):
        return table
    return {action: [keys] if isinstance(keys, str) else keys for action, keys in table.items()}


_LOOK: dict[str, Any] = {"group": "Look"}
_MODEL: dict[str, Any] = {"group": "Model", "per_conversation": True}
_ANSWERS: dict[str, Any] = {"group": "Answers", "per_conversation": True}
_JUDGE: dict[str, Any] = {"group": "Evaluation"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, each with its meaning; None leaves it to the bundle or the machine."""

    theme: str = _setting(
        "harbour", "Colour theme: one that is shipped, or one of your own.", choices=_theme_names, **_LOOK
    )
    images: Literal["auto", "kitty", "sixel", "sextant", "quadrant", "halfblock", "off"] = _setting(
        "auto", "How pictures are drawn; auto asks the terminal what it supports.", **_LOOK
    )
    reduced_motion: bool = _setting(False, "Nothing slides, fades or blinks.", **_LOOK)
    sidebar: Literal["auto", "open", "closed"] = _setting(
        "auto", "The list of conversations; auto shows it if the terminal is wide enough.", **_LOOK
    )
    bundle: str = _setting("mini", "Model bundle.", **_MODEL)
    backend: Literal["auto", "torch", "llamacpp"] = _setting(
        "auto", "Backend of the language model; auto uses llama.cpp if it is installed.", **_MODEL
    )
    device: str = _setting(
        "auto",
        "Device: auto, cpu, cuda or cuda:N.",
        accepts=re.compile(r"auto|cpu|cuda(:\d+)?").fullmatch,
        expected="auto, cpu, cuda or cuda:N",
        **_MODEL,
    )
    quant: str = _setting(
        "auto",
        "Quantisation of the language model; auto uses what is installed and suits the device.",
        choices=("auto", "fp32", "bf16", "fp16", "int8", "nf4", "F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0"),
        # A bundle's own GGUF may be of another kind.
        others=re.compile(r"BF16|F32|I?Q\d_[0-9A-Z]+(?:_[A-Z]+)?").fullmatch,
        **_MODEL,
    )
    gpu_layers: int | None = _setting(
        None, "Layers that llama.cpp puts on the GPU; all of them if not set.", least=0, **_MODEL
    )
    threads: int | None = _setting(None, "Number of CPU threads.", least=1, **_MODEL)
    context: int | None = _setting(
        None, "Context length in tokens, if shorter than the bundle's; saves memory.", least=1, **_MODEL
    )
    image_tokens: int | None = _setting(
        None,
        "About how many tokens a picture takes at most; for bundles of two GGUF files.",
        least=1,
        **_MODEL,
    )
    repack: bool = _setting(
        True,
        "Let llama.cpp repack weights for this processor, where that works: faster, but the system cannot "
        "drop them when memory is short.",
        group="Model",
    )
    cache: bool = _setting(
        True, "Keep what the model sees of a picture on disk, so that it is encoded once.", group="Model"
    )
    max_tokens: int | None = _setting(
        None,
        "Maximum length of an answer in tokens; a word is one or two.",
        least=1,
        most=100_000,
        **_ANSWERS,
    )
    temperature: float | None = _setting(
        None, "Sampling temperature; 0 is greedy.", least=0, most=10, **_ANSWERS
    )
    top_p: float | None = _setting(
        None,
        "Nucleus sampling: the smallest set of tokens with this probability.",
        least=0.001,
        most=1,
        **_ANSWERS,
    )
    repetition_penalty: float | None = _setting(
        None, "Over 1 discourages tokens that were already used.", least=0.01, most=10, **_ANSWERS
    )
    seed: int | None = _setting(
        None, "Seed of sampling; the same seed gives the same answer.", least=0, most=2**63 - 1, **_ANSWERS
    )
    system_prompt: str | None = _setting(
        None, "System prompt, for models whose template has one.", **_ANSWERS
    )
    judge_url: str | None = _setting(
        None,
        "Address of the OpenAI-compatible endpoint that `eval` asks, such as http://localhost:8000/v1.",
        **_JUDGE,
    )
    judge_model: str | None = _setting(None, "Name of the model that `eval` asks there.", **_JUDGE)
    keys: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata={
            "about": 'Your own key bindings, as in send = ["alt+enter"]; [] unbinds an action.',
            "group": "Keys",
            "convert": _with_key_lists,
            "expected": "a table of actions, each with a list of keys",
        },
    )


class Entry(NamedTuple):
    """One setting of the schema: a field of `Settings` and its other names."""

    field: Field[Any]
    name: str
    default: Any
    about: str
    group: str
    per_conversation: bool

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Its option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...]:
        """The values it is limited to, if they can be listed; themes are those that exist now."""
        return choices(Settings, self.field)

    def expected(self) -> str:
        """What it may be, as the end of a sentence that begins with "it must be"."""
        return expected(Settings, self.field)

    def checked(self, value: object, called: str = "") -> Any:
        """The value as `Settings` holds it; raises InvalidValueError, which calls the setting `called`."""
        if value is None and self.default is None:
            return None
        return check(Settings, self.field, value, called or self.name)

    def required(self, value: object, called: str = "") -> Any:
        """As `checked`, but raises UsageError: for a value whose author is there to correct it."""
        try:
            return self.checked(value, called)
        except InvalidValueError as problem:
            raise UsageError(str(problem)) from problem

    def parsed(self, text: str, called: str = "") -> Any:
        """The value of a text from the environment or an input; the default if it is blank.

        Raises as `checked`.
        """
        if not text.strip():
            return self.default
        value = from_text(Settings, self.field, text)
        return self.checked(_key_table(text, called) if self.name == "keys" else value, called)


def _key_table(text: str, called: str) -> dict[str, list[str]]:
    """`send=ctrl+s,f2; quit=ctrl+x`, as environment variables hold keys."""
    table = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        action, equals, keys = part.partition("=")
        if not equals or not action.strip():
            problem = f"is {as_written(text)}; write actions with their keys, as in send=alt+enter; quit=f10"
            raise InvalidValueError(called, problem)
        table[action.strip()] = [key.strip() for key in keys.split(",") if key.strip()]
    return table


def schema() -> list[Entry]:
    """Every setting, in the order of the screen."""
    return [
        Entry(
            found,
            found.name,
            {} if found.default is MISSING else found.default,
            found.metadata["about"],
            found.metadata["group"],
            found.metadata.get("per_conversation", False),
        )
        for found in fields(Settings)
    ]


def entry(name: str) -> Entry:
    """The setting of that name; raises UsageError, with the nearest name, if there is none."""
    entries = {found.name: found for found in schema()}
    if name not in entries:
        raise UsageError(f"There is no setting '{name}'; {_nearest(name, entries)}")
    return entries[name]


def _nearest(name: str, entries: Mapping[str, Entry]) -> str:
    return suggestion(name.replace("-", "_"), entries)


@dataclass(frozen=True)
class Loaded:
    """The resolved settings, the origin of each, and the errors, as sentences to show once."""

    settings: Settings
    origins: Mapping[str, Origin]
    problems: tuple[str, ...] = ()

    def for_conversation(self, own: Mapping[str, object]) -> Loaded:
        """With a conversation's own settings under the flags; invalid values are reported and skipped."""
        problems = list(self.problems)
        values: dict[str, Any] = {}
        for found in schema():
            if found.per_conversation and found.name in own and self.origins.get(found.name) != "flag":
                with _reporting("this conversation's settings", problems):
                    values[found.name] = found.checked(own[found.name])
        return self._over(values, "conversation", problems)

    def with_value(self, name: str, value: object, origin: Origin = "file") -> Loaded:
        """With one setting changed, as the settings screen does. Raises UsageError for a wrong value."""
        return self._over({name: entry(name).required(value)}, origin, list(self.problems))

    def _over(self, values: Mapping[str, Any], origin: Origin, problems: list[str]) -> Loaded:
        origins = {**self.origins, **dict.fromkeys(values, origin)}
        return Loaded(replace(self.settings, **values), origins, tuple(problems))


def load_settings(
    flags: Mapping[str, object] = MappingProxyType({}), environment: Mapping[str, str] | None = None
) -> Loaded:
    """The settings from the file, the environment and the flags (None: not given), the last one winning.

    Errors in the file or the environment become problems, not exceptions. Raises UsageError for an
    invalid flag, because the user can correct it at once.
    """
    entries = {found.name: found for found in schema()}
    problems: list[str] = []
    layers: dict[Origin, dict[str, Any]] = {
        "file": _from_file(entries, problems),
        "environment": _from_environment(
            entries, os.environ if environment is None else environment, problems
        ),
        "flag": {
            name: entries[name].required(value, entries[name].flag)
            for name, value in flags.items()
            if value is not None
        },
    }
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = dict.fromkeys(entries, "default")
    for origin, layer in layers.items():
        keys = {**values.get("keys", {}), **layer.get("keys", {})}
        values |= {**layer, "keys": keys}
        origins |= dict.fromkeys(layer, origin)
    return Loaded(Settings(**values), origins, tuple(problems))


def save_setting(name: str, value: Any) -> None:
    """Write one setting ("theme", or "keys.send") to the file, comments kept; None removes it.

    Raises UsageError for an invalid value, SettingsError if the file cannot be changed.
    """
    table, _, action = name.partition(".")
    found = entry(table)
    if value is not None:
        value = found.required({action: value} if action else value, name)
    write_setting(settings_path(), name, value[action] if action and value is not None else value)


@contextmanager
def _reporting(where: str, problems: list[str]) -> Iterator[None]:
    try:
        yield
    except InvalidValueError as problem:
        problems.append(f"In {where}, {problem}")


def _from_file(entries: Mapping[str, Entry], problems: list[str]) -> dict[str, Any]:
    path = settings_path()
    values: dict[str, Any] = {}
    try:
        table = read_settings_file(path)
    except SettingsError as problem:
        problems.append(str(problem))
        return values
    for name, value in table.items():
        with _reporting(str(path), problems):
            if name not in entries:
                raise InvalidValueError(name, f"is not a setting; {_nearest(name, entries)}")
            values[name] = entries[name].checked(value)
    return values


def _from_environment(
    entries: Mapping[str, Entry], environment: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    by_variable = {found.variable: found for found in entries.values()}
    values: dict[str, Any] = {}
    for variable, text in sorted(environment.items()):
        if variable in by_variable and text.strip():
            with _reporting("the environment", problems):
                values[by_variable[variable].name] = by_variable[variable].parsed(text, variable)
        elif variable.startswith(PREFIX) and variable not in by_variable:
            # Only near misses: MINIGPT4_HOME is not a setting, and not a mistake.
            name = variable.removeprefix(PREFIX).lower()
            if near := nearest(name, entries, cutoff=0.75):
                meant = entries[near].variable
                problems.append(f"In the environment, {variable} is not a setting; did you mean {meant}?")
    return values
