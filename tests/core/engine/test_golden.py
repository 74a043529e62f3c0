"""The engine says what the original says: the same conversation, the same pictures, the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.source import File, Source
from minigpt4.core.engine import Backend, Engine
from minigpt4.core.errors import FetchError
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.types import ImageEmbedding, Sampling
from minigpt4.core.weights.gguf.from_hf import convert
from minigpt4.core.weights.locate import gguf_path

GREEDY = Sampling(max_tokens=24, temperature=0.0, repetition_penalty=1.0)
BACKENDS: tuple[Backend, ...] = ("torch", "llamacpp")

ImportTiny = Callable[..., Bundle]


@pytest.fixture(scope="module")
def cases(golden: Path) -> list[dict[str, Any]]:
    chat = json.loads((golden / "chat.json").read_text(encoding="utf-8"))
    return list(chat["cases"])


@pytest.fixture(scope="module")
def vision(golden: Path) -> dict[str, NDArray[np.float32]]:
    return load_file(golden / "vision.safetensors")


def conversation(case: dict[str, Any], vision: dict[str, NDArray[np.float32]]) -> list[Message]:
    seen = vision["noqformer_image_embeds" if case["template"] == "llama2" else "image_embeds"]
    pictures = [ImageEmbedding(seen[index], f"picture {index}") for index in case["images"]]
    first, *later = case["questions"]
    messages: list[Message] = [User(first, images=pictures)]
    for earlier, question in zip(case["history"], later, strict=True):
        messages += [Assistant(earlier["answer"]), User(question)]
    return messages


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("has_qformer", [True, False], ids=["vicuna", "llama2"])
def test_greedy_answers_are_the_originals(
    backend: Backend,
    has_qformer: bool,
    cases: list[dict[str, Any]],
    vision: dict[str, NDArray[np.float32]],
    import_tiny: ImportTiny,
) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
    mine = [case for case in cases if (case["template"] != "llama2") == has_qformer]
    with Engine.load(import_tiny(has_qformer=has_qformer), backend=backend, device="cpu") as engine:
        output = {case["name"]: engine.reply(conversation(case, vision), GREEDY).read() for case in mine}
    assert output == {case["name"]: case["greedy_stop_answer"] for case in mine}


def test_a_search_over_beams_ends_where_the_originals_does(
    cases: list[dict[str, Any]], vision: dict[str, NDArray[np.float32]], import_tiny: ImportTiny
) -> None:
    mine = [case for case in cases if case["template"] != "llama2"]
    with Engine.load(import_tiny(), backend="torch", device="cpu") as engine:
        for case in mine:
            reply = engine.reply(conversation(case, vision), GREEDY, beams=3)
            reply.read()
            ids = case["runs"]["beam3_stop"]
            assert reply.answer_tokens == len(ids) - (ids[-1] == 2), case["name"]


def test_a_gguf_made_here_does_without_the_folder_it_was_made_from(
    golden: Path, import_tiny: ImportTiny
) -> None:
    pytest.importorskip("llama_cpp")
    folder = golden / "tiny_model" / "llama"
    names = ("config.json", "model.safetensors", "tokenizer.model")
    files = tuple(File(name, None, None, (Source(kind="path", path=folder / "gone"),)) for name in names)
    imported = import_tiny()
    bundle = replace(imported, language=replace(imported.language, files=files, folder=None))
    with pytest.raises(FetchError, match=r"config\.json of the bundle 'tiny' could not be fetched"):
        Engine.load(bundle, device="cpu")
    convert(folder, gguf_path(bundle, "Q8_0"), "Q8_0")
    with Engine.load(bundle, device="cpu") as engine:
        assert engine.reply([User("What is this?")], GREEDY).read()
    with pytest.raises(FetchError, match=r"config\.json"):
        Engine.load(bundle, backend="torch", device="cpu")
