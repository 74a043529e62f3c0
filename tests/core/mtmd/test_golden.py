"""Every family's embeddings, logits and greedy ids are those that libmtmd and transformers have of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from tests.conftest import RunMinigpt4
from tests.core.mtmd.conftest import FAMILIES, Family

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.mtmd.language import LlamaCppWithImages
from minigpt4.core.mtmd.trace import trace_pair
from minigpt4.core.pixels import open_picture
from minigpt4.core.types import ImageEmbedding

IMAGE, LOGITS, LANGUAGE = 2e-3, {"gemma3": 1e-2}, {"gemma3": 1e-2}
SAME_LIBRARY = 1e-3
"""Against numbers of the same library on another processor; on the one that made them they are equal."""


def peak_difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def traced(family: Family, case: str) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    found = trace_pair(
        EngineOptions(family.bundle(), device="cpu", threads=1),
        [open_picture(path) for path in family.pictures(case)],
        raw=family.case(case)["prompt"],
        greedy=16,
    )
    vectors = found.arrays["image_BND"].reshape(-1, 64)
    return vectors, found.arrays["logits_V"], found.metadata["greedy_ids"]


@pytest.mark.parametrize("case", ["exact", "two", "free"])
@pytest.mark.parametrize("name", FAMILIES)
def test_our_path_is_that_of_libmtmd(families: dict[str, Family], name: str, case: str) -> None:
    family = families[name]
    vectors_ND, logits_V, ids = traced(family, case)
    assert peak_difference(vectors_ND, family.array(case, "cpp_image_embeddings")) < SAME_LIBRARY
    assert peak_difference(logits_V, family.array(case, "cpp_logits_rows")[0]) < SAME_LIBRARY
    recorded = family.case(case)["llama_cpp"]["greedy_ids"]
    # In "free" the two best logits of llava_siglip and gemma3 are too close for another processor.
    assert ids == recorded or family.case(case)["difference"]["min_top2_gap_llama_cpp"] < 0.02


@pytest.mark.parametrize("case", ["exact", "two"])
@pytest.mark.parametrize("name", [*FAMILIES, "llava"])
def test_our_path_is_that_of_transformers(families: dict[str, Family], name: str, case: str) -> None:
    """LLaVA's CLIP tower, too: libmtmd 0.3.36 is off by 0.92 there."""
    family = families[name]
    vectors_ND, logits_V, ids = traced(family, case)
    assert peak_difference(vectors_ND, family.array(case, "hf_image_embeddings").reshape(-1, 64)) < IMAGE
    assert peak_difference(logits_V, family.array(case, "hf_logits_rows")[0]) < LOGITS.get(name, 2e-3)
    assert ids == family.case(case)["hf"]["greedy_ids"]


@pytest.mark.parametrize("name", [*FAMILIES, "llava"])
def test_the_language_side_alone_is_that_of_transformers(families: dict[str, Family], name: str) -> None:
    family = families[name]
    prompt = family.case("exact")["prompt"].split("<__media__>")
    with LlamaCppWithImages(family.language, context=512, threads=1) as language:
        layout = trace_layout(family)
        picture = ImageEmbedding(family.array("exact", "hf_image_embeddings").reshape(-1, 64), "p", layout)
        pieces = [
            *language.raw_tokens(prompt[0], is_first=True),
            picture,
            *language.raw_tokens(prompt[1], is_first=False),
        ]
        logits_V = language.logits(pieces)
        ids = [int(logits_V.argmax())]
        while len(ids) < 16:
            ids.append(int(language.logits([*pieces, *ids]).argmax()))
    wanted_V = family.array("exact", "hf_logits_rows")[0]
    assert peak_difference(logits_V, wanted_V) < LANGUAGE.get(name, 1e-5)
    assert ids == family.case("exact")["hf"]["greedy_ids"]


def trace_layout(family: Family):  # type: ignore[no-untyped-def]
    """The layout of the family's exact picture."""
    from minigpt4.core.mtmd.encoder import MmprojEncoder

    with LlamaCppWithImages(family.language, context=64, threads=1) as language:
        return MmprojEncoder(family.mmproj, language, threads=1)(open_picture(family.folder / "exact.png"))[1]


def test_the_command_writes_them_to_a_file(
    families: dict[str, Family], run_minigpt4: RunMinigpt4, tmp_path: Path
) -> None:
    family, home = families["qwen25vl"], {"MINIGPT4_HOME": str(tmp_path / "home")}
    files = ("--gguf", family.language, "--mmproj", family.mmproj, "--template", "qwen2-vl")
    imported = run_minigpt4("models", "import", "tiny", *files, env=home)
    assert imported.returncode == 0, imported.stderr
    output = tmp_path / "trace.safetensors"
    pictures = [part for path in family.pictures("two") for part in ("-i", path)]
    raw = ("--raw", family.case("two")["prompt"], "-o", output, "--greedy", "16", "--threads", "1")
    written = run_minigpt4("models", "trace", "tiny", *pictures, *raw, env=home)
    assert written.returncode == 0, written.stderr
    with safe_open(output, "numpy") as file:
        image_BND, logits_V = file.get_tensor("image_BND"), file.get_tensor("logits_V")
        ids = json.loads(file.metadata()["greedy_ids"])
    assert image_BND.shape == (1, 32, 64)  # pictures of 20 and 12 vectors
    assert peak_difference(image_BND[0], family.array("two", "cpp_image_embeddings")) < SAME_LIBRARY
    assert peak_difference(logits_V, family.array("two", "cpp_logits_rows")[0]) < SAME_LIBRARY
    assert ids == family.case("two")["llama_cpp"]["greedy_ids"]
    wrong = run_minigpt4("models", "trace", "tiny", "-i", pictures[1], *raw, env=home)
    assert wrong.returncode == 2
    assert "2 times <__media__> and there are 1 pictures" in wrong.stderr
