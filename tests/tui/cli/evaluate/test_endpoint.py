"""`minigpt4 eval SUITE --endpoint`: a vision model behind a server answers a suite."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import UsageError
from minigpt4.train.evaluate.judges.endpoint import OPENAI_URL
from minigpt4.tui.cli.evaluate.endpoint import EndpointFlags
from minigpt4.tui.settings.settings import save_setting

Run = Callable[..., tuple[int, str, str]]
AOkvqa = Callable[[str, list[str], int], Path]


def test_a_model_behind_an_endpoint_answers_a_suite_and_the_run_resumes(
    run: Run, serve: Any, captioned: Path, tmp_path: Path
) -> None:
    server = serve(lambda _prompt: "A cat looks at a cup of coffee.")
    arguments = ["subjects", "--data", captioned, "--endpoint", server.url, "--model", "eyes"]
    arguments += ["--output", tmp_path / "run"]
    code, out, err = run(*arguments, "--json", "--max-requests", "1")
    assert (code, out) == (1, "")
    assert "Stopped at --max-requests 1" in err
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    assert "Resuming: 1 of 3 answers are there." in err
    whole = json.loads(out)
    assert whole["model"] == {"endpoint": server.url, "model": "eyes"}
    assert (whole["answers"], whole["not_answered"]) == (2, 1)
    assert (whole["scores"][0]["name"], whole["scores"][0]["value"]) == ("subject rate", 1.0)
    sent = {one["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2] for one in server.requests}
    assert {base64.b64decode(one) for one in sent} == {
        (captioned / name).read_bytes() for name in ("chelsea.png", "coffee.jpg")
    }
    assert set(server.prompts) == {"What is in this picture?"} and len(server.prompts) == 2
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    assert header["sampling"] == {"temperature": 0.0}


def test_another_model_does_not_go_on_with_a_run(
    run: Run, serve: Any, captioned: Path, tmp_path: Path
) -> None:
    server = serve(lambda _prompt: "A cat.")
    arguments = ["subjects", "--data", captioned, "--endpoint", server.url, "--output", tmp_path / "run"]
    assert run(*arguments, "--model", "eyes")[0] == 0
    code, _, err = run(*arguments, "--model", "other")
    assert code == 2
    assert "another model.model" in err


def test_an_endpoint_needs_the_name_of_a_model(run: Run, captioned: Path) -> None:
    code, _, err = run("subjects", "--data", captioned, "--endpoint", "http://localhost:1/v1")
    assert code == 2
    assert "give --model" in err.lower()


def test_choices_are_part_of_the_question(run: Run, serve: Any, aokvqa: AOkvqa) -> None:
    data = aokvqa("What looks up?", ["dog", "cat", "bird", "cow"], 1)
    server = serve(lambda prompt: "Cat." if "dog; cat; bird; cow" in prompt else "A kitten")
    code, out, err = run("vqa", "--data", data, "--endpoint", server.url, "--model", "eyes", "--json")
    assert code == 0, err
    values = {score["name"]: score["value"] for score in json.loads(out)["scores"]}
    assert values == {"A-OKVQA, multiple choice": 1.0, "A-OKVQA, direct answer": 0.0}


@pytest.mark.parametrize(
    ("option", "url", "variable", "found"),
    [
        ("http://a/v1", "http://b/v1", "http://c/v1", "http://a/v1"),
        (None, "http://b/v1", "http://c/v1", "http://b/v1"),
        (None, None, "http://c/v1", "http://c/v1"),
        (None, None, None, OPENAI_URL),
    ],
)
def test_options_go_before_settings_and_these_before_openais_variable(
    option: str | None, url: str | None, variable: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_setting("judge_model", "small")
    save_setting("judge_url", url)
    monkeypatch.setenv("OPENAI_BASE_URL", variable or "")
    assert EndpointFlags().load(option).name == f"small @ {found}"
    assert EndpointFlags(model="large").load(option).name == f"large @ {found}"


def test_without_any_model_the_setting_is_named() -> None:
    with pytest.raises(UsageError, match="the setting judge_model"):
        EndpointFlags().load("http://a/v1")
