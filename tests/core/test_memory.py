"""How much memory a bundle needs, and what is said where it is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core import memory
from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, UsageError
from minigpt4.core.memory import GIB, free_memory, memory_needed, quants_of, require_memory
from minigpt4.core.weights.locate import gguf_path

VOCABULARY_BYTES = 1_000_000
"""More than a GGUF's vocabulary and tensor table take; the reckoning leaves them out."""


@pytest.mark.parametrize(
    ("name", "quant", "published"),
    [
        ("minigpt4-llama2-7b", "Q8_0", 7_161_089_728),
        ("minigpt4-llama2-7b", "Q4_K_M", 4_081_004_224),
        ("minigpt4-llama2-7b", "Q5_K_M", 4_783_156_928),
        ("minigpt4-vicuna-13b", "Q4_K_M", 7_865_956_224),
    ],
)
def test_gguf_sizes_are_those_of_files_that_people_share(name: str, quant: str, published: int) -> None:
    size = memory_needed(load_bundle(name), quant)["language model"]
    assert 0 < published - size < VOCABULARY_BYTES


@pytest.mark.parametrize(
    ("name", "quant", "weights"),
    [
        # 6.74e9 and 13.02e9 weights in two bytes each, but for the norms in four.
        ("minigpt4-vicuna-7b", "bf16", 13_477_363_712),
        ("minigpt4-vicuna-13b", "bf16", 26_032_558_080),
        # The 2 x 32000 x 4096 weights of the two tables stay in two bytes.
        ("minigpt4-vicuna-7b", "int8", 7_001_358_336),
        ("minigpt4-vicuna-7b", "nf4", 4_168_105_984),
    ],
)
def test_torch_forms_count_every_weight(name: str, quant: str, weights: int) -> None:
    assert memory_needed(load_bundle(name), quant)["language model"] == weights


def test_the_parts_of_the_paper_have_their_known_sizes() -> None:
    parts = memory_needed(load_bundle("minigpt4-vicuna-13b"), "nf4", tower_dtype="fp32")
    assert list(parts) == [
        "vision tower",
        "Q-Former",
        "projection",
        "language model",
        "key/value cache",
        "working room",
    ]
    assert parts["vision tower"] / 4 == pytest.approx(985.9e6, rel=1e-3)
    assert parts["Q-Former"] / 4 == pytest.approx(105.1e6, rel=1e-3)
    assert parts["projection"] / 4 == 3_937_280
    assert parts["key/value cache"] == 2 * 40 * 5120 * 2000 * 2


def test_the_form_without_q_former_has_none_and_a_larger_projection() -> None:
    parts = memory_needed(load_bundle("minigpt4-llama2-7b"), "Q4_0")
    assert "Q-Former" not in parts
    assert parts["projection"] / 4 == (5632 + 1) * 4096


def test_three_layers_and_a_shorter_context_are_counted() -> None:
    bundle = load_bundle("minigpt4-vicuna-7b")
    three = replace(bundle, projection=replace(bundle.projection, layers=3))
    before, after = memory_needed(bundle, "Q4_0"), memory_needed(three, "Q4_0", context=500)
    assert (after["projection"] - before["projection"]) / 4 == 2 * 4096 * 4097
    assert after["key/value cache"] * 4 == before["key/value cache"]


def test_a_gguf_that_is_here_counts_with_its_own_size() -> None:
    bundle = load_bundle("minigpt4-vicuna-7b")
    path = gguf_path(bundle, "Q4_0")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    assert memory_needed(bundle, "Q4_0")["language model"] == 4


def test_mini_is_offered_in_the_forms_it_has() -> None:
    mini = load_bundle("mini")
    assert quants_of(mini) == ("fp32", "F16", "Q4_1")
    assert quants_of(load_bundle("mini-without-detector")) == ("fp32", "Q4_1")
    assert memory_needed(mini, "Q4_1")["language model"] == mini.language.file.bytes
    # SmolLM2's 134.5e6 weights: its output layer is the table of embeddings.
    assert memory_needed(mini, "fp32")["language model"] / 4 == pytest.approx(134.5e6, rel=1e-3)
    assert memory_needed(mini, "F16")["language model"] / 2 == pytest.approx(134.5e6, rel=1e-3)
    assert sum(memory_needed(mini, "F16").values()) < 1.1 * GIB


def test_a_folder_of_the_users_tells_its_own_geometry(tmp_path: Path) -> None:
    bundle = load_bundle("minigpt4-vicuna-7b")
    own = replace(bundle, language=replace(bundle.language, files=(), folder=tmp_path, geometry=None))
    config = {
        "num_hidden_layers": 32,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert memory_needed(own, "bf16") == memory_needed(bundle, "bf16")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert memory_needed(own, "bf16") == {}
    require_memory(EngineOptions(own, device="cpu", quant="bf16"), free=1)


def test_too_little_memory_names_what_would_fit() -> None:
    with pytest.raises(
        BackendError,
        match=r"^The bundle 'minigpt4-vicuna-7b' in bf16 needs 16\.1 GiB of memory and 9\.0 GiB are free; "
        r"Q5_K_M would fit with 8\.0 GiB: choose `--quant Q5_K_M`\.$",
    ):
        require_memory(EngineOptions("minigpt4-vicuna-7b", quant="bf16", dtype="bf16"), free=9 * GIB)


def test_memory_for_none_of_them_says_the_least() -> None:
    with pytest.raises(BackendError, match=r"even Q4_0 needs 10\.9 GiB: free memory or choose a smaller"):
        require_memory(EngineOptions("minigpt4-vicuna-13b", quant="int8", dtype="bf16"), free=4 * GIB)
    with pytest.raises(BackendError, match=r"4\.0 GiB are free on the GPU; free memory or choose a smaller"):
        require_memory(EngineOptions("minigpt4-vicuna-13b", quant="Q4_0", device="cuda"), free=4 * GIB)


def test_enough_memory_is_silent() -> None:
    require_memory(EngineOptions("minigpt4-vicuna-7b", quant="bf16", device="cpu"), free=64 * GIB)


@pytest.mark.parametrize("quant", ["q4_0", "float8"])
def test_an_unknown_quantisation_is_refused(quant: str) -> None:
    with pytest.raises(UsageError, match=f"no quantisation '{quant}'"):
        memory_needed(load_bundle("mini"), quant)


def test_the_smaller_of_the_machines_and_the_containers_room_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert free_memory() is None
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n", encoding="ascii")
    assert free_memory() == 50 * 1024
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    (tmp_path / "memory.current").write_text("30000\n", encoding="ascii")
    (tmp_path / "memory.stat").write_text(
        "anon 9000\nactive_file 1000\ninactive_file 2000\n", encoding="ascii"
    )
    assert free_memory() == 50 * 1024
    (tmp_path / "memory.max").write_text("40000\n", encoding="ascii")
    assert free_memory() == 13_000


PARENT = """
import subprocess, sys
ballast = b"." * 400_000_000
subprocess.run([sys.executable, "-c", "from minigpt4.core.memory import most_held; print(most_held())"])
"""


def test_what_a_process_held_does_not_begin_at_what_its_parent_holds() -> None:
    held = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True).stdout
    assert 1e6 < int(held) < 300e6


def test_what_a_process_held_is_known_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = memory.most_held()
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert known / 2 < memory.most_held()
