"""`minigpt4 curate --repair-with URL`: estimate, caps and faults of an endpoint, as for judges."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Message
from minigpt4.core.types import ImageEmbedding, Sampling
from minigpt4.train.evaluate.judges import endpoint as endpoint_module
from minigpt4.tui.cli import main, options

NAMES = [f"{number}.png" for number in range(6)]
Curate = Callable[..., tuple[int, str, str]]


class Reply:
    finish = "stop"
    answer_tokens = 90
    first_token_s = 0.1

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self) -> str:
        return self._text


class FakeEngine:
    """Describes each picture by its name."""

    def look(self, source: Picture) -> ImageEmbedding:
        return ImageEmbedding(np.zeros((1, 4), np.float32), key=source.name)

    def reply(self, conversation: Sequence[Message], sampling: Sampling | None = None) -> Reply:
        return Reply(f"The picture {conversation[0].images[0].key} shows what nobody has seen befor.")  # type: ignore[union-attr]

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def curate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, mini_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Curate:
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(endpoint_module, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(options, "load_engine", lambda _options: FakeEngine())
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / "photos" / name)

    def curate(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            run = ["--output", str(tmp_path / "run"), "--no-review", "--timeout", "1"]
            main(["curate", str(tmp_path / "photos"), *run, *arguments])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return curate


def corrected(prompt: str) -> str:
    return prompt.rpartition("\n\n")[2].replace("befor.", "before.")


def repaired(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "run" / "repaired.jsonl").read_text().splitlines()]


def test_a_repair_tells_its_cost_stops_at_its_cap_and_goes_on(
    curate: Curate, serve: Any, tmp_path: Path
) -> None:
    server = serve(corrected)
    asked = ["--repair-with", server.url, "--repair-model", "small", "--concurrency", "1"]
    code, out, err = curate(*asked, "--max-cost", "1")
    assert code == 2 and "give --input-price and --output-price" in err
    assert not (tmp_path / "run").exists(), "refused before anything is described"
    code, out, err = curate(*asked, "--max-requests", "2", "--input-price", "1", "--output-price", "2")
    assert (code, out) == (1, "")
    assert f"small @ {server.url}: 6 requests, about" in err and "at a cost of at most" in err
    assert "Stopped at --max-requests 2" in err.splitlines()[-1]
    assert len(repaired(tmp_path)) == 2
    code, out, err = curate(*asked, "--json")
    assert code == 0, err
    assert json.loads(out)["repair"] == {"by": f"small @ {server.url}", "changed": 6, "not_repaired": 0}
    assert len(server.prompts) == len(set(server.prompts)) == 6, "nothing is paid for twice"


def test_no_repair_is_lost_or_doubled_by_a_server_that_fails(
    curate: Curate, serve: Any, tmp_path: Path
) -> None:
    server = serve(corrected, ["429 0.05", "", "500", "slow", "cut", "half", "broken", "empty"])
    code, _, err = curate("--repair-with", server.url, "--repair-model", "small", "--retries", "9")
    assert code == 0, err
    rows = repaired(tmp_path)
    assert len(rows) == len({row["photo"] for row in rows}) == 6
    assert all(row["text"].endswith("before.") and not row["error"] for row in rows)
