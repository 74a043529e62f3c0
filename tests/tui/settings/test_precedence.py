"""Settings decide what was not typed, in every command that answers: file < environment < command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.paths import config_home
from minigpt4.core.types import Sampling
from minigpt4.tui.cli import ask
from minigpt4.tui.cli.chat import chat
from minigpt4.tui.cli.options import MODEL, SAMPLING, Chosen, ModelFlags
from minigpt4.tui.conversation.engine_status import options_from
from minigpt4.tui.history.store import Store
from minigpt4.tui.settings.file import settings_path
from minigpt4.tui.settings.settings import Loaded, load_settings, schema

Call = Callable[..., "subprocess.CompletedProcess[str]"]

LAYERS: dict[str, tuple[Any, Any, Any]] = {
    "bundle": ("minigpt4-vicuna-7b", "minigpt4-llama2-7b", "mini"),
    "backend": ("torch", "llamacpp", "auto"),
    "device": ("cuda", "cuda:1", "cpu"),
    "quant": ("fp16", "Q8_0", "auto"),
    "gpu_layers": (1, 2, 3),
    "threads": (1, 2, 3),
    "context": (101, 102, 103),
    "max_tokens": (11, 12, 13),
    "temperature": (0.1, 0.2, 0.3),
    "top_p": (0.5, 0.6, 0.7),
    "repetition_penalty": (1.1, 1.2, 1.3),
    "seed": (1, 2, 3),
    "system_prompt": ("file", "environment", "typed"),
}
"""What the file, the environment and the command line say, the last one mostly what holds by itself."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What each command would have answered with."""
    found: list[dict[str, Any]] = []

    def take(chosen: Chosen) -> None:
        model = {name: getattr(chosen.model, name) for name in MODEL}
        model["bundle"] = chosen.model.bundle.name
        found.append(model | asdict(chosen.sampling) | {"system_prompt": chosen.system_prompt})

    def asked(asking: ask.Asking, _: object) -> None:
        take(asking.chosen)

    def opened(_: object, chosen: Chosen, *__: object) -> None:
        take(chosen)
        raise Minigpt4Error("Enough.")

    def app(loaded: Loaded, *_: object) -> int:
        found.append({name: getattr(loaded.settings, name) for name in LAYERS})
        return 0

    monkeypatch.setattr(ask.Asking, "about_all", asked)
    monkeypatch.setattr(chat, "_opened", opened)
    monkeypatch.setattr(chat, "open_app", app)
    monkeypatch.setattr(chat, "is_at_screen", lambda: True)
    yield found


def write(layer: int) -> None:
    lines = [f"{name} = {values[layer]!r}" for name, values in LAYERS.items()]
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text("\n".join(lines))


def layer_of(number: int) -> dict[str, Any]:
    return {name: values[number] for name, values in LAYERS.items()}


COMMANDS = {"ask": ("ask", "What is this?"), "plain": ("chat", "--plain"), "app": ("chat",)}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_typed_beats_the_environment_and_that_the_file(
    command: str, call_minigpt4: Call, seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(0)
    call_minigpt4(*COMMANDS[command])
    for name, values in LAYERS.items():
        monkeypatch.setenv(f"MINIGPT4_{name.upper()}", str(values[1]))
    call_minigpt4(*COMMANDS[command])
    flags = [f"--{name.replace('_', '-')}={values[2]}" for name, values in LAYERS.items()]
    done = call_minigpt4(*COMMANDS[command], *flags)
    assert [{name: one[name] for name in LAYERS} for one in seen] == [
        layer_of(0),
        layer_of(1),
        layer_of(2),
    ], done.stderr


def test_every_setting_of_the_model_and_of_answers_is_looked_at_here() -> None:
    named = {entry.name for entry in schema() if entry.per_conversation}
    # Image tokens are for bundles of two GGUF files alone: see the next test.
    assert named == {*LAYERS, "image_tokens"} == {*MODEL, *SAMPLING, "system_prompt"}
    assert set(SAMPLING) == {one.name for one in fields(Sampling)} & set(LAYERS)


def test_image_tokens_of_a_gguf_bundle_come_from_all_three(
    call_minigpt4: Call, seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text('bundle = "smolvlm-500m"\nimage_tokens = 64\n')
    call_minigpt4("ask", "What is this?")
    monkeypatch.setenv("MINIGPT4_IMAGE_TOKENS", "65")
    call_minigpt4("ask", "What is this?")
    call_minigpt4("ask", "--image-tokens", "66", "What is this?")
    assert [one["image_tokens"] for one in seen] == [64, 65, 66]


def test_without_any_the_bundle_decides(call_minigpt4: Call, seen: list[dict[str, Any]]) -> None:
    call_minigpt4("ask", "What is this?")
    assert seen[0]["bundle"] == "mini" and seen[0]["system_prompt"] == ""
    assert {name: seen[0][name] for name in SAMPLING} == {
        name: value for name, value in asdict(load_bundle("mini").sampling).items() if name in SAMPLING
    }


def test_repacking_is_turned_off_by_the_flag_or_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def repacks(flags: ModelFlags) -> bool:
        return options_from(load_settings(flags.given()).settings).repack

    assert repacks(ModelFlags())
    assert not repacks(ModelFlags(no_repack=True))
    monkeypatch.setenv("MINIGPT4_REPACK", "false")
    assert not repacks(ModelFlags())


@pytest.mark.parametrize("flags", [("--greedy",), ("--beams", "3")])
def test_greedy_does_not_contradict_a_temperature_of_the_settings(
    call_minigpt4: Call, seen: list[dict[str, Any]], flags: tuple[str, ...]
) -> None:
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text("temperature = 0.9")
    assert call_minigpt4("ask", "What is this?", *flags).returncode == 0
    assert seen[0]["temperature"] == 0


def test_a_kept_conversation_brings_its_own_settings_and_flags_beat_them(
    call_minigpt4: Call, seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT4_TEMPERATURE", "0.1")
    store = Store.open()
    store.new_conversation({"temperature": 0.5, "seed": 5})
    store.close()
    call_minigpt4("chat", "--plain", "--resume", "last", "--seed", "6")
    assert (seen[0]["temperature"], seen[0]["seed"]) == (0.5, 6)


@pytest.mark.parametrize("command", ["ask", "plain"])
def test_a_wrong_setting_is_reported_and_the_command_continues(
    command: str, call_minigpt4: Call, seen: list[dict[str, Any]]
) -> None:
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text('temprature = 1\nseed = "x"')
    done = call_minigpt4(*COMMANDS[command])
    assert len(seen) == 1
    assert "'temprature' is not a setting; did you mean 'temperature'?" in done.stderr
    assert "'seed' is 'x'; it must be a whole number" in done.stderr


@pytest.mark.parametrize("command", ["ask", "plain"])
def test_a_bundle_that_the_settings_name_and_is_not_there_is_one_line_that_says_who_named_it(
    command: str, call_minigpt4: Call, seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT4_BUNDLE", "mimi")
    done = call_minigpt4(*COMMANDS[command])
    assert (done.returncode, seen) == (2, [])
    assert done.stderr == (
        "minigpt4: There is no bundle 'mimi'; did you mean 'mini'? "
        "(From the settings: bundle; `minigpt4 config show` shows where that is set.)\n"
    )


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--bundle", "mimi"), "There is no bundle 'mimi'; did you mean 'mini'?"),
        (
            ("--backend", "torhc"),
            "'--backend' is 'torhc'; it must be one of auto, torch, llamacpp; did you mean 'torch'?",
        ),
        (("--backend", "torch", "--quant", "Q8_0"), "The quantisation 'Q8_0' is not one of torch's"),
        (("--context", "99999999"), "A context of 99999999 positions is not possible"),
        (("--projection", "none.safetensors"), "There is no projection file none.safetensors"),
        (("--theme", "papr"), "'--theme' is 'papr'; it must be one of"),
        (("--top-p", "2"), "'--top-p' is 2"),
    ],
)
def test_what_cannot_be_is_one_line_before_the_app_starts(
    call_minigpt4: Call, seen: list[dict[str, Any]], flags: tuple[str, ...], sentence: str
) -> None:
    done = call_minigpt4("chat", *flags)
    assert done.returncode in (1, 2) and seen == []
    assert done.stderr.startswith(f"minigpt4: {sentence}") and done.stderr.count("\n") == 1


def test_a_bundle_of_the_settings_that_is_not_there_is_left_to_the_app_where_it_can_be_mended(
    call_minigpt4: Call, seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT4_BUNDLE", "mimi")
    assert call_minigpt4("chat").returncode == 0
    assert seen[0]["bundle"] == "mimi"


def test_a_projection_may_be_the_folder_of_the_run_that_trained_it(
    call_minigpt4: Call, seen: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path] = []
    monkeypatch.setattr(chat, "open_app", lambda *arguments: given.append(arguments[3]) or 0)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    done = call_minigpt4("chat", "--projection", run)
    assert done.returncode == 2 and f"The folder {run} holds no projection.safetensors" in done.stderr
    (run / "projection.safetensors").touch()
    assert call_minigpt4("chat", "--projection", run).returncode == 0
    assert call_minigpt4("chat", "--projection", run / "projection.safetensors").returncode == 0
    assert given == [run / "projection.safetensors"] * 2
    assert not config_home().exists(), "nothing is written"
