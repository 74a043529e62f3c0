"""The torch backend on the original's tiny LLaMA: same inputs, logits and answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from minigpt4.core.language.sampling import nucleus
from minigpt4.core.language.tokenizers import SentencePieceTokens
from minigpt4.core.language.torch import TorchLanguageModel
from minigpt4.core.prompt import (
    LLAMA2,
    VICUNA_V0,
    Assistant,
    Message,
    User,
    prompt_pieces,
    prompt_positions,
)
from minigpt4.core.types import ImageEmbedding, PromptPiece, ResolvedSampling
from minigpt4.core.weights.hf_model import load_llama

FOLDER = Path(__file__).parents[2] / "golden"
CHAT: dict[str, Any] = json.loads((FOLDER / "chat.json").read_text())
CASES: dict[str, Any] = {case["name"]: case for case in CHAT["cases"]}
TEMPLATES = {"vicuna0": VICUNA_V0, "llama2": LLAMA2}
END = 2
STOPS: list[list[int]] = CHAT["stop_words_ids"]


@pytest.fixture(scope="module")
def vectors() -> dict[str, NDArray[np.float32]]:
    vectors: dict[str, NDArray[np.float32]] = load_file(FOLDER / "chat.safetensors")
    return vectors


@pytest.fixture(scope="module")
def model(golden: Path) -> Iterator[TorchLanguageModel]:
    folder = golden / "tiny_model" / "llama"
    weights = load_llama(folder, dtype=torch.float32, device="cpu")
    model = TorchLanguageModel(weights, SentencePieceTokens(folder / "tokenizer.model"), context=2000)
    yield model
    model.close()


def prompt_of(
    case: dict[str, Any], embeddings_SD: NDArray[np.float32], model: TorchLanguageModel
) -> list[PromptPiece]:
    """The case's conversation through our template; its pictures' vectors are the reference's."""
    parts = [len(part["ids"]) for part in case["segments"]]
    length = (case["n_positions"] - sum(parts)) // (len(parts) - 1)
    starts = np.cumsum([0, *(part + length for part in parts[:-1])])[1:] - length
    pictures = [
        ImageEmbedding(embeddings_SD[start : start + length], key=f"{case['name']}/{start}")
        for start in starts
    ]
    conversation: list[Message] = []
    for turn, question in enumerate(case["questions"]):
        conversation.append(User(question, images=pictures if turn == 0 else []))
        conversation += [Assistant(past["answer"]) for past in case["history"][turn : turn + 1]]
    return prompt_pieces(TEMPLATES[case["template"]].segments(conversation), model.tokenize)


def greedily(model: TorchLanguageModel, prompt: list[PromptPiece], run: dict[str, Any]) -> list[int]:
    settings = ResolvedSampling(
        max_tokens=CHAT["new_tokens"], temperature=0, repetition_penalty=run["repetition_penalty"]
    )
    if "num_beams" in run:
        stop = VICUNA_V0.stop if run["stop"] else ()
        return model.beams(prompt, settings, run["num_beams"], run.get("length_penalty", 1.0), stop)
    answer: list[int] = []
    for token in model.generate(prompt, settings):
        answer.append(token)
        if run["stop"] and any(answer[-len(stop) :] == stop for stop in STOPS):
            break
    return answer


@pytest.mark.parametrize("name", CASES)
def test_inputs_and_first_logits_are_the_originals(
    model: TorchLanguageModel, vectors: dict[str, NDArray[np.float32]], name: str
) -> None:
    case, embeddings_SD = CASES[name], vectors[f"{name}.inputs_embeds"][0]
    prompt = prompt_of(case, embeddings_SD, model)
    assert prompt_positions(prompt) == case["n_positions"]
    inputs_SD, logits_V = model.trace(prompt)
    assert inputs_SD is not None
    assert np.abs(inputs_SD - embeddings_SD).max() < 1e-5
    top = case["first_logits_top50"]
    assert np.abs(logits_V[top["ids"]] - np.array(top["logits"])).max() < 1e-4
    if f"{name}.first_logits" in vectors:
        assert np.abs(logits_V - vectors[f"{name}.first_logits"]).max() < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_greedy_and_beam_answers_are_the_originals(
    model: TorchLanguageModel, vectors: dict[str, NDArray[np.float32]], name: str
) -> None:
    prompt = prompt_of(CASES[name], vectors[f"{name}.inputs_embeds"][0], model)
    ours = {run: greedily(model, prompt, settings) for run, settings in CHAT["runs"].items()}
    theirs = {run: [token for token in ids if token != END] for run, ids in CASES[name]["runs"].items()}
    assert ours == theirs


def test_sampling_draws_the_originals_tokens_as_often(
    model: TorchLanguageModel, vectors: dict[str, NDArray[np.float32]]
) -> None:
    prompt = prompt_of(CASES["plain"], vectors["plain.inputs_embeds"][0], model)
    logits = model.logits(prompt).astype(np.float64)
    for case in CASES["plain"]["sampling_distribution_first_token"]:
        tokens, shares = nucleus(
            logits / case["temperature"], top_k=case["top_k_default"], top_p=case["top_p"]
        )
        assert tokens.tolist() == case["ids"]
        assert np.abs(shares / shares.sum() - np.array(case["probs"])).max() < 1e-5


def test_a_prompt_whose_front_the_original_cuts_off_gives_its_answer_when_cut_alike(
    model: TorchLanguageModel, vectors: dict[str, NDArray[np.float32]]
) -> None:
    """The original cuts positions off the front, system sentence and half messages; core/trim.py leaves
    out whole messages instead, and refuses a last one that is longer than the context."""
    embeddings_SD = vectors["plain.inputs_embeds"][0]
    for case in CASES["plain"]["max_length_cases"]:
        kept_SD = embeddings_SD[case["dropped_from_front"] :]
        assert len(kept_SD) == case["kept"]
        settings = ResolvedSampling(max_tokens=case["max_new_tokens"]).greedy()
        prompt = [ImageEmbedding(kept_SD, key=f"kept {case['kept']}")]
        assert list(model.generate(prompt, settings)) == case["greedy"]


def test_an_answer_that_was_begun_is_continued_as_the_originals(
    model: TorchLanguageModel, vectors: dict[str, NDArray[np.float32]]
) -> None:
    batch = CHAT["batch_generate"]
    embeddings_BSD = vectors["batch_generate.inputs_embeds"]
    for row, ids in enumerate(batch["output_ids"]):
        mask = np.array(batch["attention_mask"][row], dtype=bool)
        begun = batch["prompts"][row].rpartition("###Assistant: ")[2]
        question = batch["prompts"][row].rpartition("</Img> ")[2].partition("###")[0]
        embeddings_SD = embeddings_BSD[row][mask]
        picture = ImageEmbedding(embeddings_SD[42:46], key=f"batch {row}")
        conversation: list[Message] = [User(question, images=[picture])]
        conversation += [Assistant(begun)] if begun else []
        prompt = prompt_pieces(VICUNA_V0.segments(conversation), model.tokenize)
        inputs_SD, _ = model.trace(prompt)
        assert inputs_SD is not None
        assert np.abs(inputs_SD - embeddings_SD[-len(inputs_SD) :]).max() < 1e-5
        settings = ResolvedSampling(max_tokens=len(ids)).greedy()
        assert list(model.generate(prompt, settings)) == ids
