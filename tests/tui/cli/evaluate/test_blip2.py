"""`minigpt4 eval SUITE --blip2`: a BLIP-2 of random weights answers, as transformers' own generate does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt4.train.evaluate.run_folder import EvalRun

QUERIES = 4
VOCABULARY = "<pad> <s> </s> <unk> Question : Answer what is in this picture ? a cat dog cup of and".split()


def save_blip2(folder: Path, language: str) -> Path:
    """A tiny BLIP-2 with OPT or T5 in transformers' form."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        OPTConfig,
        PreTrainedTokenizerFast,
        T5Config,
    )
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    torch.manual_seed(10)
    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(VOCABULARY)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    begin_and_end = {"opt": "<s> $A", "t5": "$A </s>"}[language]
    words.post_processor = processors.TemplateProcessing(
        single=begin_and_end, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    pixels = BlipImageProcessorPil(size={"height": 28, "width": 28})
    processor = Blip2Processor(pixels, tokenizer, num_query_tokens=QUERIES)
    tokens = {"vocab_size": len(VOCABULARY) + 1, "pad_token_id": 0, "eos_token_id": 2}
    text: Any = OPTConfig(
        **tokens,
        bos_token_id=1,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    if language == "t5":
        text = T5Config(
            **tokens, decoder_start_token_id=0, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
        )
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 16}
    config = Blip2Config(
        vision_config={**sizes, "image_size": 28, "patch_size": 14},
        qformer_config={**sizes, "vocab_size": 8},
        text_config=text,
        num_query_tokens=QUERIES,
        image_token_index=len(VOCABULARY),
    )
    model = Blip2ForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():  # large, or every picture would get the same answer
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=2.0 if "language_model" not in name else 0.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


Run = Callable[..., tuple[int, str, str]]
AOkvqa = Callable[[str, list[str], int], Path]


def by_transformers(folder: Path, picture: Path, prompt: str | None, max_tokens: int) -> str:
    """What BLIP-2's own processor and generate make of a picture, as its model card shows it."""
    from PIL import Image
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor: Any = Blip2Processor.from_pretrained(folder)
    inputs = processor(images=Image.open(picture).convert("RGB"), text=prompt, return_tensors="pt")
    found: Any = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
    tokens = found[0]
    if model.config.use_decoder_only_language_model and prompt is not None:
        tokens = tokens[inputs["input_ids"].shape[1] :]
    return str(processor.decode(tokens, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("language", ["opt", "t5"])
def test_blip2_answers_a_suite_as_its_own_generate_does_and_the_run_resumes(
    run: Run, captioned: Path, tmp_path: Path, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt4.train.evaluate.blip2.default_dtype", lambda _device: "fp32")
    folder = save_blip2(tmp_path / "tiny", language)
    arguments = [
        "subjects",
        "--data",
        captioned,
        "--blip2",
        folder,
        "--output",
        tmp_path / "run",
        "--device",
        "cpu",
    ]
    code, out, err = run(*arguments, "--json", "--max-tokens", "6")
    assert code == 0, err
    whole = json.loads(out)
    assert (whole["answers"], whole["not_answered"]) == (2, 1)
    assert whole["model"]["blip2"] == "tiny" and len(whole["model"]["revision"]) == 64
    answers = {one.photo: one for one in EvalRun.open(tmp_path / "run").records() if not one.error}
    prompt = "Question: What is in this picture? Answer:"
    expected = {
        name: by_transformers(folder, captioned / name, prompt, 6) for name in ("chelsea.png", "coffee.jpg")
    }
    assert {Path(key).name: one.answer for key, one in answers.items()} == expected
    assert len(set(expected.values())) == 2, "the picture decides"
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(header["versions"]) == {"minigpt4", "torch", "transformers"}

    rows = (tmp_path / "run" / "answers.jsonl").read_text().splitlines(keepends=True)
    one_answer = next(row for row in rows if not json.loads(row)["error"])
    (tmp_path / "run" / "answers.jsonl").write_text(one_answer)
    code, _, err = run(*arguments, "--max-tokens", "6")
    assert code == 0 and "Resuming: 1 of 3 answers are there." in err
    again = {one.photo: one.answer for one in EvalRun.open(tmp_path / "run").records() if not one.error}
    assert again == {key: one.answer for key, one in answers.items()}


@pytest.mark.parametrize("language", ["opt", "t5"])
def test_blip2_takes_the_choice_that_it_finds_likeliest(
    run: Run,
    aokvqa: AOkvqa,
    examples: Path,
    tmp_path: Path,
    language: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("minigpt4.train.evaluate.blip2.default_dtype", lambda _device: "fp32")
    folder = save_blip2(tmp_path / "tiny", language)
    choices = ["dog", "cat", "a cup of dog", "picture"]
    data = aokvqa("what is this?", choices, likeliest(folder, examples / "coffee.jpg", choices))
    code, out, err = run("vqa", "--data", data, "--blip2", folder, "--device", "cpu", "--json")
    assert code == 0, err
    values = {score["name"]: score["value"] for score in json.loads(out)["scores"]}
    assert values["A-OKVQA, multiple choice"] == 1.0


def likeliest(folder: Path, picture: Path, choices: Sequence[str]) -> int:
    """The choice with the smallest sum of losses, by BLIP-2's own processor and forward."""
    from PIL import Image
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    model: Any = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor: Any = Blip2Processor.from_pretrained(folder)
    prompt = "Question: what is this? Short answer:"
    inputs = processor(images=Image.open(picture).convert("RGB"), text=prompt, return_tensors="pt")
    losses = []
    for choice in choices:
        answer = processor.tokenizer(choice, add_special_tokens=False, return_tensors="pt")["input_ids"]
        if model.config.use_decoder_only_language_model:
            ids = torch.cat([inputs["input_ids"], answer], dim=1)
            logits = model(pixel_values=inputs["pixel_values"], input_ids=ids).logits[
                :, -answer.shape[1] - 1 : -1
            ]
        else:
            logits = model(**inputs, labels=answer).logits
        losses.append(torch.nn.functional.cross_entropy(logits[0], answer[0], reduction="sum").item())
    return losses.index(min(losses))


def test_a_model_in_hugging_faces_cache_is_found_by_name_and_computes_in_bfloat16(
    run: Run, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt4.train.evaluate.blip2.default_dtype", lambda _device: "bf16")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub" / "models--some--blip2"
    save_blip2(kept / "snapshots" / "0123abcd", "opt")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0123abcd")
    code, out, err = run("captions", "--data", captioned, "--blip2", "some/blip2", "--stage", "1", "--json")
    assert code == 0, err
    model = json.loads(out)["model"]
    assert (model["blip2"], model["revision"], model["dtype"]) == ("some/blip2", "0123abcd", "bf16")


def test_what_is_no_blip2_is_refused_in_one_sentence(run: Run, captioned: Path, tmp_path: Path) -> None:
    empty, other, bare, cut = (tmp_path / name for name in ("empty", "other", "bare", "cut"))
    for folder, kind in ((empty, None), (other, "bert"), (bare, "blip-2"), (cut, "blip-2")):
        folder.mkdir()
        if kind:
            (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (cut / "model.safetensors").write_bytes(b"cut off")
    sentences = {
        empty: f"'{empty}' is no BLIP-2: it has no readable config.json",
        other: f"'{other}' is no BLIP-2: its config.json is that of 'bert'",
        bare: f"The BLIP-2 in '{bare}' has no weights",
        cut: f"The BLIP-2 in '{cut}' cannot be loaded: ",
    }
    for folder, sentence in sentences.items():
        code, out, err = run("subjects", "--data", captioned, "--blip2", folder, "--output", tmp_path / "run")
        assert (code, out) == (1, "")
        assert sentence in err.splitlines()[-1]
    code, _, err = run("subjects", "--data", captioned, "--blip2", "nobody/no-such-blip2")
    assert code == 2
    assert 'download it with "hf download nobody/no-such-blip2' in err
