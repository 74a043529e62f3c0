"""A bench's result: beside what the machine allows and an earlier one, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.download.fetch import bundles_folder
from minigpt4.core.errors import DataError
from minigpt4.tui.bench.drawing import draw
from minigpt4.tui.bench.figures import Figure, busy
from minigpt4.tui.bench.machine import Machine, Needs
from minigpt4.tui.bench.result import FORMAT, Result, compared, earlier_figures

Call = Callable[..., "subprocess.CompletedProcess[str]"]

MACHINE = Machine("cpu", "A <processor> & more", bandwidth=10e9, arithmetic=100e9)
NEEDS = Needs(weight_bytes=100_000_000, weights=125_000_000, look_operations=2_000_000_000)
FIGURES = (
    Figure.of("load", "s", [0.02, 0.01, 0.4]),
    Figure.of("look", "s", [0.04], looks=1),
    Figure.of("prefill", "tokens/s", [100.0]),
    Figure.of("first_token", "s", [0.5], positions=54, looks=1),
    Figure.of("decode", "tokens/s", [50.0, 40.0, 60.0]),
    Figure.of("second_turn", "s", [0.1], positions=20),
    Figure.of("cached_picture", "s", [0.002]),
    Figure.of("busy_ask", "s", [1.0], positions=54, looks=1),
    Figure.of("peak_memory", "bytes", [500_000_000]),
)
SHARES = {
    "load": 0.5,  # 100 MB at 10 GB/s in 10 of 20 ms
    "look": 0.5,  # 2 of 100 GFLOP/s in 20 of 40 ms
    "prefill": 0.25,  # 2 * 125 M operations a position: 400 positions/s
    "first_token": 0.31,  # 54 positions in 135 ms and a picture in 20 of 500 ms
    "decode": 0.5,  # 100 tokens/s
    "second_turn": 0.5,
    "busy_ask": 0.155,
}


def result_of(figures: tuple[Figure, ...] = FIGURES) -> Result:
    limits = {one.name: limit for one in figures if (limit := NEEDS.limit(one, MACHINE)) is not None}
    return Result("mini", {"backend": "llamacpp"}, {"minigpt4": "1"}, MACHINE, figures, limits)


def test_each_figure_stands_beside_what_memory_and_arithmetic_allow() -> None:
    result = result_of()
    shares = {one.name: share for one in FIGURES if (share := result.share(one)) is not None}
    assert shares == pytest.approx(SHARES)


def test_what_is_written_is_read_as_an_earlier_result(tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(result_of().as_json()))
    earlier = earlier_figures(path)
    assert earlier == {one.name: one.median for one in FIGURES}
    head, *rows = result_of().rows(earlier)
    assert head[-1] == "against before"
    assert {row[-1] for row in rows} == {"1.00"}
    assert [row[-1] for row in list(result_of().rows({"load": 1.0}))[2:]] == ["-"] * (len(FIGURES) - 1)


@given(now=st.floats(0.001, 1e6), before=st.floats(0.001, 1e6), is_rate=st.booleans())
def test_a_ratio_says_which_is_better(now: float, before: float, is_rate: bool) -> None:
    text = compared(Figure.of("some", "tokens/s" if is_rate else "s", [now]), before)
    if text != "1.00":
        assert text.endswith("(better)") == ((now > before) == is_rate)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        (b"", "is no JSON text"),
        (b"\xff\xfe", "is no JSON text"),
        (b"[" * 100_000, "is no JSON text"),
        (b"[]", "is not a result"),
        (b'{"figures": {"load": {"median": 1}}}', "is not a result"),
        (f'{{"format": "{FORMAT}", "figures": {{}}}}'.encode(), "is not a result"),
        (f'{{"format": "{FORMAT}", "figures": {{"load": {{"median": "1"}}}}}}'.encode(), "value for 'load'"),
        (f'{{"format": "{FORMAT}", "figures": {{"load": {{"median": 0}}}}}}'.encode(), "value for 'load'"),
        (f'{{"format": "{FORMAT}", "figures": {{"load": {{"median": NaN}}}}}}'.encode(), "value for 'load'"),
    ],
)
def test_a_file_that_is_no_earlier_result_is_named_before_anything_is_measured(
    tmp_path: Path, content: bytes | None, why: str, call_minigpt4: Call
) -> None:
    path = tmp_path / "earlier.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=why):
        earlier_figures(path)
    done = call_minigpt4("bench", "--compare", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert why in done.stderr


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, call_minigpt4: Call
) -> None:
    for place in (tmp_path, tmp_path / "missing" / "bench.svg"):
        done = call_minigpt4("bench", "--svg", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--svg {place} cannot be written" in done.stderr


def test_the_picture_has_a_bar_for_each_share_and_a_line_for_each_figure(tmp_path: Path) -> None:
    draw(result_of(), tmp_path / "bench.svg")
    root = ElementTree.parse(tmp_path / "bench.svg").getroot()
    name = "{http://www.w3.org/2000/svg}"
    texts = [element.text or "" for element in root.iter(f"{name}text")]
    assert {one.name for one in FIGURES} <= set(texts)
    assert any("A <processor> & more" in text for text in texts)
    widths = [float(element.attrib["width"]) for element in root.iter(f"{name}rect")][1:]
    assert [bar / whole for whole, bar in zip(widths[::2], widths[1::2], strict=True)] == pytest.approx(
        list(SHARES.values()), abs=0.001
    )


def test_busy_loops_end_with_the_block_and_with_its_process(tmp_path: Path) -> None:
    before = set(children_of(os.getpid()))
    with pytest.raises(ZeroDivisionError), busy(1):
        (child,) = set(children_of(os.getpid())) - before
        _ = 1 / 0
    assert child not in children_of(os.getpid())
    program = (
        "import os, signal\nfrom minigpt4.tui.bench.figures import busy\n"
        "with busy(1):\n    print(os.getpid(), flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=False)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and busy_loops():
        time.sleep(0.05)
    assert not busy_loops()


def children_of(parent: int) -> list[int]:
    return [int(one.name) for one in processes() if f"PPid:\t{parent}\n" in read(one / "status")]


def busy_loops() -> list[Path]:
    return [one for one in processes() if "os.getppid() == parent" in read(one / "cmdline")]


def processes() -> list[Path]:
    return [one for one in Path("/proc").iterdir() if one.name.isdigit()]


def read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def test_mini_is_measured_and_its_pictures_are_forgotten(
    mini_home: Path, run_minigpt4: Any, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "data" / "bundles").symlink_to(bundles_folder())
    done = run_minigpt4(
        *("bench", "--json", "--threads", "1", "--svg", tmp_path / "bench.svg"),
        env={"MINIGPT4_HOME": str(home)},
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bundle"] == "mini"
    assert {"backend", "device", "quant", "threads", "versions"} <= found.keys()
    assert list(found["figures"]) == [one.name for one in FIGURES]
    for figure in found["figures"].values():
        assert 0 < figure["low"] <= figure["median"] <= figure["high"]
    assert found["figures"]["second_turn"]["median"] < found["figures"]["first_token"]["median"]
    assert found["figures"]["cached_picture"]["median"] < found["figures"]["look"]["median"]
    assert ElementTree.parse(tmp_path / "bench.svg").getroot() is not None
    assert list((home / "cache" / "embeddings").iterdir()), "it was used"
    assert not list((home / "cache" / "embeddings").rglob("*.npy"))
