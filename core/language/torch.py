"""The torch backend: transformers' Llama on the converted GGUF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Tokenizer

from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.fetch import path_of
from minigpt4.core.language.cached import END_TOKENS, CachedLanguageModel, Position, encodable
from minigpt4.core.language.gguf import TOKENIZER, check_gguf, converted_folder, discard

if TYPE_CHECKING:
    from minigpt4.core.bundle import Bundle


class TorchLanguageModel(CachedLanguageModel):
    """A causal language model in float32.

    float32 and not bfloat16: on one core of a CPU with AMX both decode 17 tokens/s (a matrix
    times a vector waits for memory, and bfloat16 kernels read it at half the rate), and in float32
    a prompt computed in other chunks, or from the cache, gives the same greedy answer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        context: int,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """`model` is what `load_causal_lm` gives; `threads` sets torch's number for the whole process."""
        super().__init__()
        from transformers.cache_utils import DynamicCache

        if threads is not None:
            torch.set_num_threads(threads)
        self._model = model
        self._device = device
        self._new_cache = DynamicCache
        self._cache = DynamicCache()
        self._with_control = tokenizer
        self._without_control = Tokenizer.from_str(tokenizer.to_str())
        self._without_control.encode_special_tokens = True
        self._pieces = _pieces(tokenizer)
        self._ends = {model.config.eos_token_id, *map(tokenizer.token_to_id, END_TOKENS)}
        self.width = int(model.config.hidden_size)
        self.context = context

    @classmethod
    def load(
        cls, bundle: Bundle, *, device: str = "cpu", threads: int | None = None, context: int | None = None
    ) -> TorchLanguageModel:
        """The bundle's language model; raises BundleError where its file is missing or damaged."""
        model = load_causal_lm(bundle, device=device)
        tokenizer = load_tokenizer(bundle)
        return cls(
            model, tokenizer, context=context or bundle.language.context, device=device, threads=threads
        )

    def tokenize(self, text: str, *, control: bool) -> list[int]:
        tokenizer = self._with_control if control else self._without_control
        return list(tokenizer.encode(encodable(text), add_special_tokens=False).ids)

    def piece(self, token: int) -> bytes:
        return self._pieces[token]

    def is_end(self, token: int) -> bool:
        return token in self._ends

    def close(self) -> None:
        self._slots.clear()
        self._model = None
        self._cache = self._new_cache()

    def _keep(self, length: int) -> None:
        if length == 0:
            self._cache = self._new_cache()
        else:
            # `crop` takes how many to remove, as a negative number; a positive one it refuses.
            self._cache.crop(length - self._cache.get_seq_length())

    @torch.inference_mode()
    def _evaluate(self, positions: Sequence[Position]) -> NDArray[np.float32]:
        if self._model is None:
            raise BackendError("The language model has been closed; load it again.")
        output = self._model(
            inputs_embeds=self._embed(positions)[None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_V: NDArray[np.float32] = output.logits[0, -1].float().cpu().numpy()
        return logits_V

    def _embed(self, positions: Sequence[Position]) -> torch.Tensor:
        """Input embeddings (S, D), the pictures' vectors where tokens would be."""
        table = self._model.get_input_embeddings()
        tokens = [position.key if isinstance(position.key, int) else 0 for position in positions]
        embeddings_SD: torch.Tensor = table(torch.tensor(tokens, device=self._device))
        vectors = {place: p.vector_D for place, p in enumerate(positions) if p.vector_D is not None}
        if vectors:
            vectors_ND = torch.from_numpy(np.stack(list(vectors.values())))
            embeddings_SD[list(vectors)] = vectors_ND.to(embeddings_SD)
        return embeddings_SD


def load_causal_lm(bundle: Bundle, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """The transformers model of a bundle, frozen and in eval mode, its weights dequantised.

    Raises BundleError where the GGUF is missing or damaged, BackendError where the device is not
    there or the converted copy cannot be written.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BackendError("There is no CUDA device that torch can use; choose `--device cpu`.")
    gguf = _gguf(bundle)
    folder = converted_folder(gguf, bundle.language.file.sha256)
    try:
        model = _from_folder(folder, dtype)
    except (SafetensorError, RuntimeError, ValueError, KeyError):
        discard(folder)
        model = _from_folder(converted_folder(gguf, bundle.language.file.sha256), dtype)
    if model.config.hidden_size != bundle.language.width:
        raise BundleError(
            f"The language model {gguf} has the width {model.config.hidden_size}, but the bundle "
            f"'{bundle.name}' says {bundle.language.width}."
        )
    return model.to(device).eval().requires_grad_(False)


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer, without transformers; control tokens in the text become control tokens."""
    folder = converted_folder(_gguf(bundle), bundle.language.file.sha256)
    return Tokenizer.from_file(str(folder / TOKENIZER))


def _gguf(bundle: Bundle) -> Path:
    file = bundle.language.file
    if not file.name.endswith(".gguf"):
        raise BackendError(f"The torch backend reads GGUF files; the bundle '{bundle.name}' has {file.name}.")
    path = path_of(file, bundle)
    check_gguf(path, file.bytes)
    return path


def _from_folder(folder: Path, dtype: torch.dtype) -> Any:
    # Only the Llama classes: the whole library takes seconds longer to import.
    from transformers.models.llama.modeling_llama import LlamaForCausalLM
    from transformers.utils import logging

    load: Any = LlamaForCausalLM.from_pretrained
    hide_progress: Any = logging.disable_progress_bar
    hide_progress()  # 0.1 s of loading needs none, and stderr belongs to the program
    model, report = load(folder, dtype=dtype, local_files_only=True, output_loading_info=True)
    if report["missing_keys"] or report["mismatched_keys"]:  # it would go on with random numbers there
        raise ValueError(f"weights are missing: {sorted(report['missing_keys'])[:3]}")
    return model


def _pieces(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every token: the byte-level alphabet undone, control tokens empty."""
    alphabet = {character: byte for byte, character in _byte_alphabet().items()}
    control = tokenizer.get_added_tokens_decoder()
    texts = sorted((index, text) for text, index in tokenizer.get_vocab().items())
    return [
        b"" if index in control else bytes(alphabet[character] for character in text) for index, text in texts
    ]


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte (bytes_to_unicode of openai/gpt-2's encoder.py)."""
    ranges = ("!", "~"), ("¡", "¬"), ("®", "ÿ")
    printable = [byte for first, last in ranges for byte in range(ord(first), ord(last) + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }
