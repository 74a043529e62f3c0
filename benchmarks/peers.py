"""mini beside the plain pipeline and transformers' own `generate`: first token, second turn, decoding.

    python benchmarks/peers.py [--photo examples/chelsea.png] [--rounds 5] [--tokens 32]

Needs the bundle `mini`. All in one process, in turns, with the same weights, photo and questions; medians:

- plain: as MiniGPT-4's released code works: float32, the picture encoded when it is given, then transformers'
  `generate` over the whole conversation at every turn, nothing kept from the previous turn.
- generate: the same with the language model in bfloat16.
- torch, llamacpp: this project's two backends. `Engine.look` is timed without the cache on disk.

llama.cpp at its own best settings is in llama_rate.py; MiniGPT-4 at its true size in true_size.py.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.cores import use_torch_threads
from minigpt4.core.engine import Engine
from minigpt4.core.language.hf_load import load_causal_lm
from minigpt4.core.pixels import open_picture
from minigpt4.core.prompt import Assistant, Message, SmolLM2, User
from minigpt4.core.types import ImageEmbedding, Sampling

QUESTIONS = ("What is in this picture?", "What colour is it?")
ALL_TURNS = SmolLM2()
"""All turns in the prompt, as other models read them; mini's own template leaves earlier ones out."""

PHOTO = Path(__file__).parent.parent / "examples" / "chelsea.png"


class Ours:
    """An engine, its KV cache kept between turns."""

    def __init__(self, backend: str) -> None:
        self._engine = Engine.load("mini", backend=backend, device="cpu", cache=False)  # type: ignore[arg-type]
        self._engine.template = ALL_TURNS

    def look(self, photo: Path) -> ImageEmbedding:
        return self._engine.look(photo)

    def answer(self, conversation: Sequence[Message], tokens: int) -> str:
        return self._engine.reply(conversation, Sampling(max_tokens=tokens, temperature=0.0)).read()

    def forget(self) -> None:
        """Empty the KV cache: the next conversation is the first."""
        self._engine.language.reset()


class Plain:
    """transformers' `generate` over the embeddings of the whole conversation."""

    def __init__(self, quant: str) -> None:
        from minigpt4.core.download.fetch import projection_path
        from minigpt4.core.vision.encoder import ImageEncoder

        bundle = load_bundle("mini")
        self._encode = ImageEncoder(bundle, projection_path(bundle), device="cpu")
        self._model = load_causal_lm(bundle, quant=quant)
        self._engine = Engine.load("mini", backend="llamacpp", device="cpu")  # for its prompts and tokens
        self._engine.template = ALL_TURNS

    def look(self, photo: Path) -> ImageEmbedding:
        return ImageEmbedding(self._encode(open_picture(photo)), str(photo))

    @torch.inference_mode()
    def answer(self, conversation: Sequence[Message], tokens: int) -> str:
        table = self._model.get_input_embeddings()
        rows: list[Tensor] = []
        for piece in self._engine._pieces(conversation):
            if isinstance(piece, int):
                rows.append(table(torch.tensor([piece])))
            else:
                assert isinstance(piece, ImageEmbedding)
                rows.append(torch.from_numpy(np.array(piece.tokens_ND)).to(table.weight.dtype))
        inputs_BSD = torch.cat(rows)[None]
        found = self._model.generate(
            inputs_embeds=inputs_BSD,
            attention_mask=torch.ones(inputs_BSD.shape[:2], dtype=torch.long),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        pieces = b"".join(self._engine.language.piece(int(token)) for token in found[0])
        return pieces.decode("utf-8", "replace")

    def forget(self) -> None:
        """Do nothing: no state is kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    options = parser.parse_args()
    use_torch_threads(None)
    peers: dict[str, Ours | Plain] = {
        "plain": Plain("fp32"),
        "generate": Plain("bf16"),
        "torch": Ours("torch"),
        "llamacpp": Ours("llamacpp"),
    }
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in peers}
    for _ in range(options.rounds + 1):
        for name, peer in peers.items():
            figures[name].append(measured(peer, options.photo, options.tokens))
    print(f"medians of {options.rounds} rounds\n")
    print("| | new picture, first token | second turn, first token | decoding, tokens/s |")
    print("| --- | ---: | ---: | ---: |")
    for name, rounds in figures.items():
        first, second, token = (statistics.median(values) for values in zip(*rounds[1:], strict=True))
        print(f"| {name} | {1000 * first:.0f} ms | {1000 * second:.0f} ms | {1 / token:.1f} |")


def measured(peer: Ours | Plain, photo: Path, tokens: int) -> tuple[float, float, float]:
    """Seconds to the first token about a new picture, to that of a second turn, and per further token."""
    peer.forget()
    conversation: list[Message] = []

    def first() -> None:
        conversation.append(User(QUESTIONS[0], [peer.look(photo)]))
        peer.answer(conversation, 1)

    new_picture = seconds(first)
    conversation += [Assistant(peer.answer(conversation, tokens)), User(QUESTIONS[1])]
    second_turn = seconds(lambda: peer.answer(conversation, 1))
    long = [User("Tell a long story about a boat that sails around the world.")]
    short_s = seconds(lambda: peer.answer(long, 1))
    return new_picture, second_turn, (seconds(lambda: peer.answer(long, tokens + 1)) - short_s) / tokens


def seconds(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
