"""Settings: file under environment under flags, invalid values reported as data, saves that keep comments."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.engine_options import BACKENDS
from minigpt4.core.errors import UsageError
from minigpt4.core.weights.locate import GGUF_QUANTS, TORCH_QUANTS
from minigpt4.tui.settings.file import SettingsError, settings_path
from minigpt4.tui.settings.settings import Settings, entry, load_settings, save_setting, schema


def write(text: str | bytes) -> Path:
    path = settings_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(text: str = "", environment: dict[str, str] | None = None, **flags: object) -> Settings:
    if text:
        write(text)
    loaded = load_settings(flags, environment or {})
    assert loaded.problems == ()
    return loaded.settings


def problem_of(text: str, environment: dict[str, str] | None = None) -> str:
    write(text)
    (problem,) = load_settings({}, environment or {}).problems
    return problem


def test_without_a_file_the_defaults_hold() -> None:
    loaded = load_settings({}, {})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert not settings_path().exists()


def test_every_setting_tells_what_it_is_for_and_has_a_default_that_it_may_be() -> None:
    assert [found.name for found in schema()] == [found.name for found in fields(Settings)]
    for found in schema():
        assert found.about.endswith(".") and found.group
        assert found.checked(found.default) == found.default


def test_the_file_is_weaker_than_the_environment_and_that_weaker_than_flags() -> None:
    text = 'theme = "paper"\nimages = "off"\nsidebar = "open"'
    environment = {"MINIGPT4_IMAGES": "sixel", "MINIGPT4_SIDEBAR": "closed"}
    write(text)
    loaded = load_settings({"sidebar": "auto", "bundle": None}, environment)
    assert (loaded.settings.theme, loaded.settings.images, loaded.settings.sidebar) == (
        "paper",
        "sixel",
        "auto",
    )
    origins = [loaded.origins[name] for name in ("theme", "images", "sidebar", "bundle")]
    assert origins == ["file", "environment", "flag", "default"]


def test_a_conversations_own_settings_are_stronger_than_all_but_flags() -> None:
    write("temperature = 0.1\ntop_p = 0.2")
    loaded = load_settings({"seed": 7}, {})
    own = loaded.for_conversation({"temperature": 0.5, "seed": 8, "theme": "paper", "max_tokens": "many"})
    assert (own.settings.temperature, own.settings.top_p, own.settings.seed) == (0.5, 0.2, 7)
    assert own.settings.theme == "harbour"
    assert own.origins["temperature"] == "conversation"
    assert "'max_tokens' is 'many'; it must be a whole number" in own.problems[-1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('them = "paper"', "'them' is not a setting; did you mean 'theme'?"),
        ('theme = "papr"', "'theme' is 'papr'; it must be one of .*did you mean 'paper'?"),
        ('images = "kity"', "did you mean 'kitty'?"),
        ("quant = 3", "'quant' is 3; it must be one of auto, fp32"),
        ("images = 3", "'images' is 3; it must be one of auto, kitty"),
        ('reduced_motion = "yes"', "'reduced_motion' is 'yes'; it must be true or false"),
        ("reduced_motion = 1", "'reduced_motion' is 1; it must be true or false"),
        ("threads = true", "'threads' is True; it must be a whole number of 1 or more"),
        ("threads = 0", "'threads' is 0; it must be a whole number"),
        ("threads = 1.5", "'threads' is 1.5; it must be a whole number"),
        ("temperature = nan", "'temperature' is nan; it must be a number from 0 to 10"),
        ("temperature = inf", "'temperature' is inf"),
        ("top_p = 0", "'top_p' is 0; it must be a number from 0.001 to 1"),
        ('device = "gpu"', "'device' is 'gpu'; it must be auto, cpu, cuda or cuda:N"),
        ("system_prompt = 3", "'system_prompt' is 3; it must be a text"),
        ("keys = 3", "'keys' is 3; it must be a table"),
        ("[keys]\nsend = 3", "must be a table of actions"),
        ("[keys]\nsend = [3]", "must be a table of actions"),
        ("seed = 0x" + "f" * 5000, "'seed' is that number; it must be"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("temperature = 1" + "0" * 400, "'temperature' is 1000"),
        ("system_prompt = [" + "'x'," * 100 + "]", "…"),
    ],
)
def test_a_wrong_value_is_reported_with_the_file_and_the_default_holds(line: str, message: str) -> None:
    path = write(f"{line}\n")
    loaded = load_settings({}, {})
    assert loaded.settings == Settings()
    (problem,) = loaded.problems
    assert str(path) in problem and len(problem) < 600
    assert re.search(message, problem), problem


def test_a_wrong_value_hides_no_other() -> None:
    write('images = "kity"\nsidebar = "open"')
    assert load_settings({}, {}).settings.sidebar == "open"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"theme = ", "not valid TOML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a = " + b"[" * 5000, "nested too deep|not valid"),
    ],
)
def test_a_file_that_does_not_parse_is_left_alone_and_reported(content: bytes, message: str) -> None:
    path = write(content)
    loaded = load_settings({}, {"MINIGPT4_THEME": "paper"})
    assert loaded.settings == Settings(theme="paper")
    (problem,) = loaded.problems
    assert re.search(message, problem) and str(path) in problem
    with pytest.raises(SettingsError):
        save_setting("theme", "paper")
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_reported() -> None:
    settings_path().mkdir(parents=True)
    assert "cannot be read" in load_settings({}, {}).problems[0]


def test_a_byte_order_mark_and_other_line_ends_are_fine() -> None:
    assert load("\ufefftheme = 'paper'\r\nseed = 3\r\n") == Settings(theme="paper", seed=3)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("MINIGPT4_REDUCED_MOTION", "Yes", "reduced_motion", True),
        ("MINIGPT4_REDUCED_MOTION", "0", "reduced_motion", False),
        ("MINIGPT4_SEED", " 12 ", "seed", 12),
        ("MINIGPT4_TEMPERATURE", "0", "temperature", 0.0),
        ("MINIGPT4_DEVICE", "cuda:1", "device", "cuda:1"),
        ("MINIGPT4_QUANT", "Q4_1", "quant", "Q4_1"),
        ("MINIGPT4_THEME", "", "theme", "harbour"),
        ("MINIGPT4_KEYS", "send=ctrl+s,f12; export=", "keys", {"send": ("ctrl+s", "f12"), "export": ()}),
    ],
)
def test_the_environment_sets_every_kind(variable: str, text: str, name: str, value: object) -> None:
    assert getattr(load(environment={variable: text}), name) == value


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("MINIGPT4_SEED", "often", "'MINIGPT4_SEED' is 'often'; it must be a whole number"),
        ("MINIGPT4_SEED", "1e400", "must be a whole number"),
        ("MINIGPT4_REDUCED_MOTION", "maybe", "must be true or false"),
        ("MINIGPT4_KEYS", "send", "'MINIGPT4_KEYS' is 'send'; write actions with their keys, as in send="),
        ("MINIGPT4_KEYS", "send=f12; =f11", "write actions with their keys"),
        ("MINIGPT4_TEMPRATURE", "1", "did you mean MINIGPT4_TEMPERATURE?"),
    ],
)
def test_a_slip_in_the_environment_is_reported(variable: str, text: str, message: str) -> None:
    assert message in problem_of("", {variable: text})


def test_variables_of_other_purposes_are_nobodys_slip() -> None:
    assert load_settings({}, {"MINIGPT4_HOME": "x", "MINIGPT4_PROXY_FOR_TESTS": "y"}).problems == ()


def test_a_wrong_flag_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="'--top-p' is 2; it must be a number from"):
        load_settings({"top_p": 2}, {})


def test_keys_of_the_file_and_the_environment_go_together() -> None:
    found = load('[keys]\nsend = "f12"\nquit = ["f10"]', {"MINIGPT4_KEYS": "quit=f11"})
    assert found.keys == {"send": ("f12",), "quit": ("f11",)}


def test_names_are_those_that_the_core_knows() -> None:
    assert set(entry("backend").choices) == set(BACKENDS)
    assert set(entry("quant").choices) == {"auto", *TORCH_QUANTS, *GGUF_QUANTS}
    load_bundle(Settings().bundle)


def test_an_unknown_name_gets_the_nearest_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean 'top_p'"):
        entry("top-p")


# -- saving ---------------------------------------------------------------------------------------

COMMENTED = """\
# mine
theme = "paper"  # for the day

[keys]  # mine, too
send = ["f12"]
"""


def test_a_save_keeps_comments_order_and_other_lines() -> None:
    path = write(COMMENTED)
    save_setting("theme", "harbour")
    assert path.read_text() == COMMENTED.replace('"paper"', '"harbour"')


def test_a_new_key_stands_before_the_tables() -> None:
    path = write(COMMENTED)
    save_setting("seed", 5)
    save_setting("keys.quit", ["f10"])
    table = tomllib.loads(path.read_text())
    assert table == {"theme": "paper", "seed": 5, "keys": {"send": ["f12"], "quit": ["f10"]}}
    assert all(line in path.read_text() for line in ("# mine\n", "# for the day\n", "# mine, too\n"))


def test_a_saved_setting_is_loaded_again_and_none_takes_it_out() -> None:
    save_setting("temperature", 0.5)
    save_setting("system_prompt", 'two\nlines, "quoted" \\ and \x7f')
    assert load().system_prompt == 'two\nlines, "quoted" \\ and \x7f'
    save_setting("system_prompt", None)
    assert load() == Settings(temperature=0.5)


def test_a_value_that_cannot_be_is_not_saved() -> None:
    with pytest.raises(UsageError, match="'theme' is 'papr'; it must be one of"):
        save_setting("theme", "papr")
    with pytest.raises(UsageError, match="There is no setting 'colour'"):
        save_setting("colour", "red")
    assert not settings_path().exists()


def test_a_link_to_a_file_elsewhere_stays_a_link(tmp_path: Path) -> None:
    own = tmp_path / "dotfiles.toml"
    own.write_text(COMMENTED)
    own.chmod(0o600)
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().symlink_to(own)
    save_setting("theme", "harbour")
    assert settings_path().is_symlink()
    assert tomllib.loads(own.read_text())["theme"] == "harbour"
    assert own.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_is_reported() -> None:
    settings_path().parent.parent.mkdir(parents=True, exist_ok=True)
    settings_path().parent.write_text("a file where the folder belongs")
    with pytest.raises(SettingsError, match="cannot be"):
        save_setting("theme", "paper")


@given(st.text(max_size=60), st.floats(0, 10))
def test_whatever_is_saved_is_what_is_loaded(prompt: str, temperature: float) -> None:
    save_setting("system_prompt", prompt)
    save_setting("temperature", temperature)
    loaded = load_settings({}, {})
    assert (loaded.settings.system_prompt, loaded.settings.temperature) == (prompt, temperature)


def test_reading_the_settings_loads_no_model_library_and_no_screen() -> None:
    script = "import sys, minigpt4.tui.settings.settings as s; s.load_settings(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert set(done.stdout.split()) & {"numpy", "torch", "textual", "tomlkit", "rich"} == set()
