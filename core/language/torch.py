"""The torch backend: transformers' Llama, from a converted GGUF or a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minigpt4.core.cores import use_torch_threads
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.language.base import Cancelled, LanguageModel
from minigpt4.core.language.beam_search import beam_search
from minigpt4.core.language.hf_load import load_causal_lm, load_tokens
from minigpt4.core.language.kept_states import has_room
from minigpt4.core.language.positions import Positions
from minigpt4.core.language.sampling import check_beams
from minigpt4.core.language.tokenizers import Tokens
from minigpt4.core.types import PromptPiece, ResolvedSampling, Text

LEAST_STOPPED = 16
"""Fewest positions of a chunk that can be cancelled; a decoded token is not worth the hooks."""


class TorchLanguageModel(LanguageModel):
    """A causal language model; a small one in float32 on a CPU, by default.

    float32 and not bfloat16: on one core of a CPU with AMX both decode 17 tokens/s (a matrix
    times a vector waits for memory, and bfloat16 kernels read it at half the rate), and in float32
    a prompt computed in other chunks, or from the cache, gives the same greedy answer.
    """

    backend: ClassVar[str] = "torch"

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        *,
        context: int,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """`model` is from `load_causal_lm`; `threads` sets torch's thread count for the whole process."""
        super().__init__(context)
        from transformers.cache_utils import DynamicCache

        use_torch_threads(threads)
        self._model = model
        self._device = device
        self._new_cache = DynamicCache
        self._cache = DynamicCache()
        self._tokens = tokens
        self._ends = tokens.ends | _ends(model.config.eos_token_id)
        self.width = int(model.config.hidden_size)

    @classmethod
    def load(
        cls, options: EngineOptions, *, notice: Callable[[str], None] | None = None
    ) -> TorchLanguageModel:
        """The bundle's language model; an "auto" device is the CPU here.

        Raises BundleError for a missing or damaged file, BackendError for a missing package or device,
        UsageError for a quantisation that is not torch's.
        """
        bundle = options.loaded_bundle()
        device = "cpu" if options.device == "auto" else options.device
        tokens = load_tokens(bundle)
        model = load_causal_lm(bundle, device=device, quant=options.quant, dtype=options.dtype, notice=notice)
        rows = model.get_input_embeddings().num_embeddings
        if rows < len(tokens.pieces):
            raise BundleError(
                f"The vocabulary of '{bundle.name}' has {len(tokens.pieces)} tokens, but its language model "
                f"has only {rows} rows for them; they belong to different models."
            )
        context = options.context or bundle.language.context
        return cls(model, tokens, context=context, device=device, threads=options.threads)

    def tokenize(self, *texts: Text) -> list[int]:
        return self._tokens.tokenize(*texts)

    def piece(self, token: int) -> bytes:
        # Rows that were added to the embedding (Vicuna: 32001 of them) have no text.
        pieces = self._tokens.pieces
        return pieces[token] if token < len(pieces) else b""

    def is_end(self, token: int) -> bool:
        return token in self._ends

    def beams(
        self,
        prompt: Sequence[PromptPiece],
        sampling: ResolvedSampling,
        beams: int,
        length_penalty: float = 1.0,
        stop: Sequence[str] = (),
    ) -> list[int]:
        check_beams(sampling, beams)
        positions = self._positions(prompt)
        self._computed = len(positions)
        with torch.inference_mode():
            answer = beam_search(
                self._open_model(),
                self._embed(positions),
                beams=beams,
                length_penalty=length_penalty,
                repetition_penalty=sampling.repetition_penalty,
                max_tokens=min(sampling.max_tokens, self.context - len(positions)),
                ends=self._ends,
                stops=[reading for text in stop for reading in self._tokens.readings(text)],
            )
        self._computed += len(answer)
        return [token for token in answer if token not in self._ends]

    def close(self) -> None:
        self._cached.clear()
        self._states.clear()
        self._model = None
        self._cache = self._new_cache()

    def _crop_cache(self, length: int) -> None:
        if length == 0:
            self._cache = self._new_cache()
            return
        for layer in self._layers:  # after a cancel only the first ones are too long
            # `crop` takes the number to remove as a negative number, and rejects a positive one.
            layer.crop(min(length - layer.get_seq_length(), 0))

    @torch.inference_mode()
    def _copy_cache(self) -> list[tuple[Tensor, Tensor]] | None:
        pairs: list[tuple[Tensor, Tensor]] = [(layer.keys, layer.values) for layer in self._layers]
        if not has_room(sum(one.nbytes for pair in pairs for one in pair)):
            return None
        return [(keys.to("cpu", copy=True), values.to("cpu", copy=True)) for keys, values in pairs]

    @torch.inference_mode()
    def _restore_cache(self, copy: list[tuple[Tensor, Tensor]]) -> bool:
        self._cache = self._new_cache()
        for place, (keys, values) in enumerate(copy):
            self._cache.update(keys.to(self._device), values.to(self._device), place)
        return True

    @torch.inference_mode()
    def _forward(self, positions: Positions, cancelled: Cancelled) -> NDArray[np.float32] | None:
        model = self._open_model()
        try:
            with _stopping(model, cancelled, len(positions)):
                output = model.model(
                    inputs_embeds=self._embed(positions)[None], past_key_values=self._cache, use_cache=True
                )
        except _StoppedError:
            return None
        # Not the model's own `logits_to_keep`: its slice of three dimensions makes torch copy the whole
        # head in bfloat16, 2 s for each prompt of a 7B model.
        logits_V: NDArray[np.float32] = (
            model.lm_head(output.last_hidden_state[0, -1:])[0].float().cpu().numpy()
        )
        return logits_V

    @torch.inference_mode()
    def _inputs(self, positions: Positions) -> NDArray[np.float32] | None:
        inputs_SD: NDArray[np.float32] = self._embed(positions).float().cpu().numpy()
        return inputs_SD

    def _embed(self, positions: Positions) -> Tensor:
        """Input embeddings (S, D): the tokens' embeddings, and the image embeddings unchanged."""
        table = self._open_model().get_input_embeddings()
        weight = table.weight
        return torch.cat(
            [
                table(torch.tensor(run, device=self._device))
                if isinstance(run, list)
                else torch.from_numpy(run).to(weight.device, weight.dtype)
                for run in positions.runs
            ]
        )

    @property
    def _layers(self) -> list[Any]:
        """The KV cache of each layer, a DynamicLayer."""
        return list(self._cache.layers)

    def _open_model(self) -> Any:
        if self._model is None:
            raise BackendError("The language model has been closed; load it again.")
        return self._model


class _StoppedError(Exception):
    """A forward pass was cancelled."""


@contextmanager
def _stopping(model: Any, cancelled: Cancelled, size: int) -> Iterator[None]:
    """In the block, `model` checks `cancelled` before each matrix product, if the chunk is large enough."""

    def ask(_module: nn.Module, _inputs: object) -> None:
        if cancelled():
            raise _StoppedError

    products = [one for one in model.modules() if isinstance(one, nn.Linear)] if size >= LEAST_STOPPED else []
    hooks = [product.register_forward_pre_hook(ask) for product in products]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _ends(configured: int | list[int] | None) -> frozenset[int]:
    """The end tokens that a configuration names: none, one or several."""
    if configured is None:
        return frozenset()
    return frozenset([configured] if isinstance(configured, int) else configured)
