"""`minigpt4 eval judge`: models as judges, behind a server that fails, a real one, and as a bundle."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from minigpt4.train.evaluate import suites
from minigpt4.train.evaluate.judges import endpoint as endpoint_module
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import JudgeTask, Record, Suite, SuiteOptions, Task, Verdict
from minigpt4.tui.cli.evaluate import human_judge

KEY = "sk-very-secret-1234567890"
ANSWERS = 10
SERVER = "llama_cpp openai fastapi uvicorn sse_starlette starlette_context pydantic_settings".split()


class Colors(Suite):
    """Whether an answer names the color, asked of a judge; the negative is the next picture's answer."""

    name = "colors"
    needs_picture = False

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        yield from ()

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        said = {one.id: one.value for one in verdicts if not one.is_negative and one.value is not None}
        return [Score("right", {key: (value, 1.0) for key, value in said.items()}, is_rate=True)]

    def judge_tasks(self, records: Sequence[Record], seed: int = 0) -> list[JudgeTask]:
        found = []
        for place, record in enumerate(records):
            for is_negative in (False, True):
                answer = records[(place + is_negative) % len(records)].answer
                prompt = f"Truth: {record.truth['color']}. Answer: {answer}. Is it right? Say yes or no."
                task = (record.id, "right", prompt, "Right?", answer, self.needs_picture, is_negative)
                found.append(JudgeTask(*task))
        return found

    def verdict(self, task: JudgeTask, words: str) -> float | None:
        return {"yes": 1.0, "no": 0.0}.get(words.strip(" .").lower())


def honest(prompt: str) -> str:
    """Says yes if both colors are the same."""
    truth, answer = (prompt.split(name)[1].split(".")[0].strip() for name in ("Truth:", "Answer:"))
    return "Yes." if truth == answer else "No."


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(endpoint_module, "FIRST_DELAY_S", 0.01)
    monkeypatch.setitem(suites.SUITES, "colors", Colors)


def a_run(folder: Path, places: Sequence[str] = (), digest: str = "") -> Path:
    """A run with ten answers, all of them right, and one picture that could not be asked about."""
    run = EvalRun.begin(folder, {"suite": "colors", "model": {"bundle": "mini"}}, {"data": places})
    with run.answers_file() as file:
        for number in range(ANSWERS):
            truth = {"color": f"color {number}"}
            file.add(Record(f"{number}", f"{number}.png", "set", digest, "?", f"color {number}", truth=truth))
        file.add(Record("x", "x.png", "set", "", "?", "", error="It is no picture."))
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def judge(run: Run) -> Run:
    return partial(run, "judge")


def at(server: Any, name: str = "tester", model: str = "small") -> list[str]:
    return ["--judge", name, "--base-url", server.url, "--model", model, "--timeout", "1"]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


def keys(folder: Path) -> list[tuple[str, str, bool]]:
    return sorted((row["judge"], row["id"], row["is_negative"]) for row in rows(folder))


def all_keys(judge: str = "tester") -> list[tuple[str, str, bool]]:
    return sorted(
        (judge, f"{number}", is_negative) for number in range(ANSWERS) for is_negative in (False, True)
    )


def test_every_answer_and_every_known_negative_is_judged_once(judge: Run, serve: Any, tmp_path: Path) -> None:
    server = serve(honest)
    code, out, err = judge(a_run(tmp_path / "run"), *at(server))
    assert code == 0, err
    assert keys(tmp_path / "run") == all_keys()
    assert "tester: 10 answers judged (right), 0 of 10 answers about other pictures accepted" in out
    assert out.splitlines()[-1].split() == ["right", "1.000", "0.722", "to", "1.000"]
    assert "20 requests, about" in err
    assert "Do not trust" not in err


@pytest.mark.parametrize("fault", ["429 0.05", "500", "slow", "cut", "half", "broken", "empty"])
def test_no_verdict_is_lost_or_doubled_by_a_server_that_fails(
    judge: Run, serve: Any, tmp_path: Path, fault: str
) -> None:
    server = serve(honest, ["", fault, fault, "", fault])
    code, _, err = judge(a_run(tmp_path / "run"), *at(server))
    assert code == 0, err
    assert keys(tmp_path / "run") == all_keys()


def test_a_run_that_was_stopped_goes_on_and_asks_nothing_twice(
    judge: Run, serve: Any, tmp_path: Path
) -> None:
    server = serve(honest)
    server.refuses = lambda _one: server.faults.extend(["500"] * 99) if len(server.prompts) >= 7 else None
    folder = a_run(tmp_path / "run")
    code, out, err = judge(folder, *at(server), "--retries", "0", "--concurrency", "1")
    assert (code, out) == (1, "")
    assert "the same command continues" in err.splitlines()[-1]
    assert len(rows(folder)) == 7
    with (folder / "verdicts.jsonl").open("a") as file:
        file.write('{"id": "9", "jud')  # cut off by a kill
    server.refuses, server.faults = lambda _one: None, []
    code, out, err = judge(folder, *at(server))
    assert code == 0
    assert "Resuming: 7 of 20 verdicts are there." in err
    assert keys(folder) == all_keys()
    assert len(server.prompts) == len(set(server.prompts)) == 20
    asked = len(server.requests)
    assert judge(folder, *at(server))[1] == out
    assert judge(a_run(tmp_path / "again"), *at(server))[0] == 0
    assert len(server.requests) == asked, "equal requests are answered from the disk"


def test_prose_is_counted_and_not_guessed(judge: Run, serve: Any, tmp_path: Path) -> None:
    prose = "I think that it could well be."
    server = serve(lambda prompt: prose if "Truth: color 3" in prompt else honest(prompt))
    _, out, _ = judge(a_run(tmp_path / "run"), *at(server))
    assert "tester: 9 answers judged (right), 2 verdicts not understood, 0 of 9" in out
    words = [row["words"] for row in rows(tmp_path / "run") if row["value"] is None]
    assert words == [prose] * 2


def test_a_judge_that_always_says_yes_is_exposed(judge: Run, serve: Any, tmp_path: Path) -> None:
    code, out, err = judge(a_run(tmp_path / "run"), *at(serve(lambda _prompt: "yes")))
    assert code == 0
    assert "10 of 10 answers about other pictures accepted" in out
    warnings = [line for line in err.splitlines() if "Do not trust the judge 'tester'" in line]
    assert len(warnings) == 1 and "accepted 10 of 10" in warnings[0]


def test_two_judges_are_compared_by_kappa(judge: Run, serve: Any, tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    no_to = ("Truth: color 1.", "Truth: color 2.", "Truth: color 3.")
    first = serve(lambda prompt: "no" if any(one in prompt for one in no_to[:2]) else "yes")
    second = serve(lambda prompt: "no" if any(one in prompt for one in no_to) else "yes")
    judge(folder, *at(first, "first"))
    _, out, _ = judge(folder, *at(second, "second"), "--json")
    # both yes 7, both no 2, only the first yes 1: agreed 0.9, by chance 0.8 * 0.7 + 0.2 * 0.3 = 0.62
    (agreement,) = json.loads(out)["agreements"]
    assert agreement["judges"] == ["first", "second"] and agreement["answers"] == 10
    assert agreement["kappa"] == pytest.approx((0.9 - 0.62) / (1 - 0.62))
    assert "first and second: Cohen's kappa 0.737 over 10 answers" in judge(folder, *at(second, "second"))[1]


def test_another_model_does_not_judge_under_the_same_name(judge: Run, serve: Any, tmp_path: Path) -> None:
    server, folder = serve(honest), a_run(tmp_path / "run")
    assert judge(folder, *at(server))[0] == 0
    before = (folder / "verdicts.jsonl").read_bytes()
    code, _, err = judge(folder, *at(server, model="large"))
    assert code == 2
    assert "had another model: 'small', and now it would be 'large'" in err
    assert (folder / "verdicts.jsonl").read_bytes() == before
    assert judge(folder, *at(server, "other", "large"))[0] == 0


def test_a_wrong_key_is_one_sentence_that_does_not_repeat_it(
    judge: Run, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT4_JUDGE_KEY", KEY)
    server, folder = serve(honest, key="another"), a_run(tmp_path / "run")
    code, out, err = judge(folder, *at(server))
    assert code == 1
    assert "refuses the key (401)" in err.splitlines()[-1]
    assert KEY not in out + err
    assert rows(folder) == []
    server.key = KEY
    assert judge(folder, *at(server))[0] == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(KEY.encode() in path.read_bytes() for path in written)


def test_the_key_of_openai_is_used_if_there_is_no_other(
    judge: Run, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(honest, key=KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("MINIGPT4_JUDGE_MODEL", "small")
    code, _, err = judge(a_run(tmp_path / "run"), "--judge", "tester")
    assert code == 0, err
    assert KEY not in err


def test_a_cap_stops_cleanly_and_a_higher_one_goes_on(judge: Run, serve: Any, tmp_path: Path) -> None:
    server, folder = serve(honest), a_run(tmp_path / "run")
    prices = ["--input-price", "10000", "--output-price", "0", "--concurrency", "1"]  # 100 tokens cost 1
    code, out, err = judge(folder, *at(server), *prices, "--max-cost", "4.9")
    assert (code, out) == (1, "")
    assert "Stopped before --max-cost 4.9 was exceeded" in err.splitlines()[-1]
    done = len(rows(folder))
    assert 0 < done < 20
    code, _, err = judge(folder, *at(server), "--max-requests", "3")
    assert code == 1
    assert "Stopped at --max-requests 3" in err
    assert len(rows(folder)) == done + 3
    assert judge(folder, *at(server))[0] == 0
    assert keys(folder) == all_keys()


def test_a_judge_that_needs_pictures_is_sent_those_that_were_asked_about(
    judge: Run, serve: Any, tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Colors, "needs_picture", True)
    content = (examples / "chelsea.png").read_bytes()
    data = tmp_path / "data"
    data.mkdir()
    for number in range(ANSWERS):
        (data / f"{number}.png").write_bytes(content)
    (data / "9.png").write_bytes((examples / "coffee.jpg").read_bytes())
    folder = a_run(tmp_path / "run", [str(data)], hashlib.sha256(content).hexdigest())
    server = serve(honest)
    code, _, err = judge(folder, *at(server))
    assert code == 0, err
    assert "2 not judged, the same command asks again; the first: The photo '9.png'" in err
    assert "it is not the one that was asked about" in err
    assert len(rows(folder)) == 18
    kinds = {part["type"] for one in server.requests for part in one["messages"][0]["content"]}
    assert kinds == {"image_url", "text"}
    (data / "9.png").write_bytes(content)
    assert judge(folder, *at(server))[0] == 0
    assert keys(folder) == all_keys()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "A person judges at a terminal, and this is none; --judge names a model"),
        (["--base-url", "http://h/v1"], "name that with --judge; without both you judge"),
        (["--judge", "x", "--model", "m", "--name", "ann"], "--name is a person's, and a model judges here"),
        (["--judge", "x"], "Which model of the endpoint?"),
        (["--judge", "x", "--model", "m", "--base-url", "host"], "'host' is not an endpoint's address"),
        (["--judge", "x", "--model", "m", "--max-cost", "1"], "give --input-price and --output-price"),
        (["--judge-bundle", "mini", "--base-url", "http://h/v1"], "contradict each other"),
        (["--judge-bundle", "no-such"], "no-such"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    judge: Run, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    folder = a_run(tmp_path / "run")
    code, out, err = judge(folder, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert not (folder / "verdicts.jsonl").exists()


def test_a_suite_without_judge_questions_is_refused(judge: Run, tmp_path: Path) -> None:
    EvalRun.begin(tmp_path / "run", {"suite": "captions"})
    code, _, err = judge(tmp_path / "run", "--judge", "x", "--model", "m")
    assert code == 2
    assert "has no answer to judge: its suite is captions" in err


def test_a_bundle_judges_without_pictures(judge: Run, tmp_path: Path, mini_home: Path) -> None:
    folder = a_run(tmp_path / "run")
    code, _, err = judge(folder, "--judge-bundle", "mini", "--max-tokens", "4")
    assert code == 0, err
    assert keys(folder) == all_keys("bundle mini")
    assert all(row["words"] for row in rows(folder))
    before = (folder / "verdicts.jsonl").read_bytes()
    assert judge(folder, "--judge-bundle", "mini", "--max-tokens", "4")[0] == 0
    assert (folder / "verdicts.jsonl").read_bytes() == before


def test_without_a_model_a_person_judges_beside_the_pictures(
    judge: Run, tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (examples / "chelsea.png").read_bytes()
    (tmp_path / "data").mkdir()
    for number in range(ANSWERS):
        (tmp_path / "data" / f"{number}.png").write_bytes(content)
    folder = a_run(tmp_path / "run", [str(tmp_path / "data")], hashlib.sha256(content).hexdigest())

    def decides(sitting: Any, read: Callable[[Any], bytes]) -> None:
        assert read(sitting.current) == content
        sitting.decide(1.0)

    code, _, err = judge(folder, "--name", "Ada")
    assert code == 2 and "terminal" in err
    monkeypatch.setattr(human_judge, "require_terminal", lambda: None)
    monkeypatch.setattr(human_judge, "judge_in_person", decides)
    code, _, err = judge(folder, "--name", "Ada")
    assert code == 0, err
    assert [(row["judge"], row["value"]) for row in rows(folder)] == [("Ada", 1.0)]


@pytest.fixture
def llama_server(mini_home: Path) -> Iterator[str]:
    """llama-cpp-python's own server with mini's language model; its address."""
    missing = [name for name in SERVER if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the packages of the server are not installed: {', '.join(missing)}")
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import path_of

    bundle = load_bundle("mini")
    gguf = path_of(bundle.language.file, bundle)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--n_ctx", "512", "--n_threads", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(600):
            assert process.poll() is None, "the server has ended"
            try:
                urllib.request.urlopen(f"{url}/models", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def test_a_real_server_judges_ten_answers_from_end_to_end(
    judge: Run, llama_server: str, tmp_path: Path
) -> None:
    folder = a_run(tmp_path / "run")
    asked = ["--judge", "llama", "--base-url", llama_server, "--model", "mini", "--max-tokens", "6"]
    code, out, err = judge(folder, *asked, "--json")
    assert code == 0, err
    assert keys(folder) == all_keys("llama")
    assert all(row["words"] for row in rows(folder))
    (summary,) = json.loads(out)["judges"]
    understood = [row for row in rows(folder) if row["value"] is not None]
    assert summary["judged"] + summary["negatives"] == len(understood)
    assert summary["not_understood"] == 20 - len(understood)
    assert judge(folder, *asked, "--json")[1] == out


def test_a_real_server_behind_every_fault_loses_and_doubles_no_verdict(
    judge: Run, llama_server: str, serve: Any, tmp_path: Path
) -> None:
    def relayed(prompt: str) -> str:
        said = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 6}
        kind = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"{llama_server}/chat/completions", json.dumps(said).encode(), kind)
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return str(json.load(reply)["choices"][0]["message"]["content"])

    front, folder = serve(relayed), a_run(tmp_path / "run")
    asked = ["--judge", "llama", "--base-url", front.url, "--model", "mini", "--max-tokens", "6"]
    front.faults = ["", "429 0.05", "500", "slow", "cut", "broken", "half", "empty", "", *["500"] * 99]
    code, _, err = judge(folder, *asked, "--timeout", "1.2", "--concurrency", "1", "--retries", "3")
    assert code == 1 and "the same command continues" in err
    front.faults = ["half", "429 0.05", "cut"]
    code, _, err = judge(folder, *asked)
    assert code == 0 and "Resuming: " in err
    assert keys(folder) == all_keys("llama")
