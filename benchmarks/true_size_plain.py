"""MiniGPT-4 at its real size beside the plain pipeline of the released code, in turns in one run.

    minigpt4 models synth minigpt4-vicuna-7b --seed 0 --gguf Q4_0
    python benchmarks/true_size_plain.py minigpt4-vicuna-7b-synth -i examples/chelsea.png

- plain: float32 as the released code computes on a CPU: the picture is encoded when it is attached, and
  transformers' LLaMA prefills the whole conversation at every turn.
- ours: `Engine` with the bundle's GGUF. A second turn keeps the KV cache, and a picture seen before is read
  from the embedding cache.

A 7B in float32 has 27 GB. So the plain model has only `--layers` of the layers, with random weights; it is
timed with all of these and with half of them, and the difference is scaled to the full depth. Each round is a
fresh process for each; loading is not counted. Prints medians and their ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

FIRST, SECOND = "What is in this picture?", "What colour is the largest thing in it, and where is it?"
FIGURES = ("look", "first token, new picture", "first token, second turn", "picture seen before")
ANSWER = 24
"""Tokens of the first answer."""


def ours(bundle_name: str, photo: Path) -> dict[str, float]:
    """Seconds of each figure, and the tokens of both prompts."""
    import minigpt4.core.embedding_cache
    from minigpt4.core.engine import Engine
    from minigpt4.core.prompt import Assistant, Message, User

    with tempfile.TemporaryDirectory() as folder:
        minigpt4.core.embedding_cache.cache_home = lambda: Path(folder)  # type: ignore[assignment]
        engine = Engine.load(bundle_name, backend="llamacpp", device="cpu")
        sampling = replace(engine.bundle.sampling.greedy(), max_tokens=ANSWER)
        engine.look(_blank(folder))  # loads the tower
        image, look_s = _timed(lambda: engine.look(photo))
        conversation: list[Message] = [User(FIRST, images=[image])]
        first = engine.reply(conversation, sampling)
        answer = first.read()
        conversation += [Assistant(answer), User(SECOND)]
        second = engine.reply(conversation, replace(sampling, max_tokens=1))
        second.read()
        _, seen_s = _timed(lambda: engine.look(photo))
    assert first.first_token_s is not None and second.first_token_s is not None
    figures = (look_s, look_s + first.first_token_s, second.first_token_s, seen_s)
    prompts = {"first prompt": first.prompt_tokens, "second prompt": second.prompt_tokens}
    return {**dict(zip(FIGURES, figures, strict=True)), **prompts}


def plain(bundle_name: str, photo: Path, layers: int, prompts: tuple[int, int]) -> dict[str, float]:
    """Seconds of each figure at the full depth, for prompts of these lengths."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import projection_path
    from minigpt4.core.pixels import open_picture
    from minigpt4.core.vision.encoder import ImageEncoder

    bundle = load_bundle(bundle_name)
    geometry = bundle.language.geometry
    assert geometry is not None, f"{bundle_name} does not state its language model's sizes"
    encode = ImageEncoder(bundle, projection_path(bundle), device="cpu", dtype="fp32")
    with tempfile.TemporaryDirectory() as folder:
        encode(open_picture(_blank(folder)))
    _, look_s = _timed(lambda: encode(open_picture(photo)))
    config = LlamaConfig(
        hidden_size=bundle.language.width,
        intermediate_size=geometry.mlp,
        num_attention_heads=geometry.heads,
        num_key_value_heads=geometry.key_value_heads,
        vocab_size=geometry.vocabulary,
        num_hidden_layers=layers,
    )
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    model.to_empty(device="cpu")
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.02, 0.02)
    every = model.model.layers

    @torch.inference_mode()
    def prefill(depth: int, length: int) -> float:
        model.model.layers = every[:depth]
        model.config.num_hidden_layers = depth
        inputs_BSD = torch.zeros(1, length, config.hidden_size).uniform_(-0.02, 0.02)
        _, seconds = _timed(lambda: model(inputs_embeds=inputs_BSD, use_cache=True, logits_to_keep=1))
        return seconds

    def at_full_depth(length: int) -> float:
        prefill(layers, length)  # the first call allocates
        whole, half = prefill(layers, length), prefill(layers // 2, length)
        return whole + (geometry.layers - layers) * (whole - half) / (layers - layers // 2)

    first_s, second_s = (at_full_depth(length) for length in prompts)
    return dict(zip(FIGURES, (look_s, look_s + first_s, second_s, look_s), strict=True))


def _blank(folder: str) -> Path:
    """Another picture, which loads the tower and warms it up."""
    from PIL import Image

    path = Path(folder) / "blank.png"
    Image.new("RGB", (64, 64), "white").save(path)
    return path


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def main() -> None:
    """Measure both in fresh processes, in turns, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("-i", "--image", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--prompts", type=int, nargs=2, default=(0, 0), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once == "ours":
        print(json.dumps(ours(asked.bundle, asked.image)))
        return
    if asked.once == "plain":
        print(json.dumps(plain(asked.bundle, asked.image, asked.layers, tuple(asked.prompts))))
        return
    rounds: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for _ in range(asked.rounds):
        rounds["ours"].append(_fresh("--once", "ours"))
        lengths = (str(int(rounds["ours"][-1][name])) for name in ("first prompt", "second prompt"))
        rounds["plain"].append(_fresh("--once", "plain", "--prompts", *lengths))
    last = rounds["ours"][-1]
    print(
        f"medians of {asked.rounds}; prompts of {last['first prompt']} and {last['second prompt']} tokens\n"
    )
    print("| | plain | ours | times sooner |\n| --- | ---: | ---: | ---: |")
    for name in FIGURES:
        slow, fast = (statistics.median(one[name] for one in rounds[peer]) for peer in ("plain", "ours"))
        print(f"| {name} | {slow:.2f} s | {fast:.3f} s | {slow / fast:.1f} |")


def _fresh(*extra: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], *extra], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
