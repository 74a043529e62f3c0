"""BLIP-2 as an answerer of suites: the paper's baseline, through transformers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from minigpt4.core.cores import use_torch_threads
from minigpt4.core.dtypes import default_dtype
from minigpt4.core.errors import BundleError, ImageError, UsageError
from minigpt4.core.pixels import open_picture
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.evaluate.answering import answered, failed
from minigpt4.train.evaluate.suite import Record, Task

if TYPE_CHECKING:
    from torch import Tensor

QUESTION = "Question: {} Answer:"
"""BLIP-2's prompt (Li et al. 2023, arXiv 2301.12597, section 4.2, and its own examples)."""

CONFIG = "config.json"
WEIGHTS = "*.safetensors"
DECISIVE = (WEIGHTS, "*.json", "*.txt", "*.model")


@dataclass(frozen=True)
class Blip2Folder:
    """The folder of a BLIP-2 in transformers' format, and what distinguishes it from others."""

    path: Path
    name: str
    revision: str
    """The Hub's commit, or for a folder the SHA-256 of its configuration, tokenizer and weights."""

    device: str
    dtype: str
    speaks_only: bool
    """Whether its language model is decoder-only, as OPT, and not an encoder-decoder, as Flan-T5."""

    @property
    def identity(self) -> dict[str, str]:
        """What a run records about it."""
        return {
            "blip2": self.name,
            "revision": self.revision,
            "question": QUESTION,
            "backend": "transformers",
            "device": self.device.partition(":")[0],
            "dtype": self.dtype,
        }


def find_blip2(place: str, device: str = "auto") -> Blip2Folder:
    """The model in a folder, or in Hugging Face's cache under the Hub's name; nothing is downloaded.

    Raises UsageError if there is none, BundleError if it is not a BLIP-2.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = Path(place).expanduser()
    name, revision = folder.resolve().name, ""
    if not folder.is_dir():
        folder = _cached(place)
        name, revision = place, folder.name
    speaks_only = _require_blip2(folder, place)
    dtype = default_dtype(device)
    if dtype == "fp16" and not speaks_only:
        dtype = "bf16"  # Flan-T5 overflows in float16
    return Blip2Folder(folder, name, revision or _digest(folder), device, dtype, speaks_only)


def _cached(name: str) -> Path:
    """The folder of a model in Hugging Face's cache."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except HFValidationError:
        raise UsageError(f"There is no folder '{name}', and no model on the Hub has such a name.") from None
    except LocalEntryNotFoundError:
        raise UsageError(
            f"There is no folder '{name}', and no model '{name}' in Hugging Face's cache; download it with "
            f"\"hf download {name} --exclude '*.bin'\"; its --dry-run says how large it is."
        ) from None


def _require_blip2(folder: Path, place: str) -> bool:
    """Whether its language model is decoder-only; raises BundleError if it is not a BLIP-2."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind, language = config.get("model_type"), config.get("text_config", {}).get("model_type", "opt")
    except (OSError, ValueError, AttributeError):
        kind, language = None, ""
    if kind != "blip-2":
        what = f"its {CONFIG} is that of '{kind}'" if kind else f"it has no readable {CONFIG}"
        raise BundleError(
            f"'{place}' is no BLIP-2: {what}; name a folder as transformers saves it, such as a copy of "
            "Salesforce/blip2-opt-2.7b."
        )
    if not any(folder.glob(WEIGHTS)):
        raise BundleError(f"The BLIP-2 in '{place}' has no weights: there is no file {WEIGHTS}.")
    return bool(language != "t5")


def _digest(folder: Path) -> str:
    """The SHA-256 of everything that determines its answers."""
    content = hashlib.sha256()
    for path in sorted(path for pattern in DECISIVE for path in folder.glob(pattern)):
        with path.open("rb") as file:
            content.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()


@contextmanager
def _one_sentence(folder: Blip2Folder) -> Iterator[None]:
    """Turn errors of transformers about files into a BundleError."""
    try:
        yield
    except Exception as error:  # each library that reads one of the files has errors of its own
        said = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise BundleError(f"The BLIP-2 in '{folder.path}' cannot be loaded: {said}.") from error


class Blip2Answerer:
    """BLIP-2 on a CPU or a GPU, greedy, one question at a time; each picture is encoded once."""

    def __init__(self, folder: Blip2Folder, threads: int | None = None) -> None:
        """Load the weights; raises BundleError if that fails."""
        import torch
        from transformers import AutoTokenizer, Blip2ForConditionalGeneration, logging

        # The torchvision processor rounds differently; this one returns the same pixels everywhere.
        from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        use_torch_threads(threads)
        self.identity = folder.identity
        self._device = folder.device
        self._speaks_only = folder.speaks_only
        floats = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
        load: dict[str, Any] = {"local_files_only": True}
        with _one_sentence(folder):
            model: Any = cast("Any", Blip2ForConditionalGeneration).from_pretrained(
                folder.path, dtype=floats[folder.dtype], use_safetensors=True, **load
            )
            self._model = model.to(folder.device).eval()
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder.path, **load)
            self._processor: Any = BlipImageProcessorPil.from_pretrained(folder.path, **load)

    def answers(self, tasks: Sequence[Task]) -> Iterator[Record]:
        """The records in the tasks' order; tasks about the same picture should be adjacent."""
        for photo, group in groupby(tasks, lambda task: task.photo):
            try:
                picture = open_picture(photo.read(), name=photo.key)
                image_1ND = self._image(picture.image)
            except (PhotoError, ImageError) as error:
                yield from (failed(task, str(error)) for task in group)
                continue
            for task in group:
                yield self._answer(task, picture.digest, image_1ND)

    def _answer(self, task: Task, digest: str, image_1ND: Tensor) -> Record:
        begun = time.perf_counter()
        ids = self._ids(as_asked(task.prompt))
        room = getattr(self._model.config.text_config, "max_position_embeddings", None)
        used = image_1ND.shape[1] + len(ids) + task.max_tokens
        if self._speaks_only and room is not None and used > room:
            return failed(task, f"Question and answer take {used} tokens, and BLIP-2 has {room}.", digest)
        if task.choices:
            likelihoods = self._log_likelihoods(image_1ND, as_asked(task.prompt), task.choices)
            best = task.choices[likelihoods.index(max(likelihoods))]
            return answered(task, digest, best, 0, "stop", time.perf_counter() - begun)
        tokens, finish = self._generate(image_1ND, ids, task.max_tokens)
        text = self._tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return answered(task, digest, text, len(tokens), finish, time.perf_counter() - begun)

    def _image(self, image: Any) -> Tensor:
        import torch

        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            found = self._model.get_image_features(pixels.to(self._device, self._model.dtype))
        features: Tensor = found.pooler_output
        return features

    def _ids(self, text: str) -> list[int]:
        """The tokens of a prompt, with the language model's special tokens."""
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids or [self._model.config.text_config.bos_token_id]

    def _embedded(self, image_1ND: Tensor, ids: Sequence[int]) -> Tensor:
        """The image, then the text, as BLIP-2 was trained."""
        import torch

        text_1TD = self._model.get_input_embeddings()(torch.tensor([list(ids)], device=self._device))
        return torch.cat([image_1ND.to(text_1TD.dtype), text_1TD], dim=1)

    def _generate(self, image_1ND: Tensor, ids: Sequence[int], max_tokens: int) -> tuple[list[int], str]:
        """The answer's tokens, and why it ended."""
        import torch

        language = self._model.language_model
        with torch.inference_mode():
            inputs_1SD = self._embedded(image_1ND, ids)
            found = language.generate(
                inputs_embeds=inputs_1SD,
                attention_mask=torch.ones(inputs_1SD.shape[:2], dtype=torch.long, device=self._device),
                max_new_tokens=max_tokens,
                do_sample=False,
                num_beams=1,
            )
        tokens: list[int] = found[0].tolist()
        if not self._speaks_only:
            del tokens[0]  # the start token of an encoder-decoder's answer
        ends = language.generation_config.eos_token_id
        has_ended = bool(tokens) and tokens[-1] in (ends if isinstance(ends, list) else [ends])
        return tokens, "stop" if has_ended else "length"

    def _log_likelihoods(self, image_1ND: Tensor, prompt: str, choices: Sequence[str]) -> list[float]:
        """The natural logarithm of each choice's probability as the beginning of the answer."""
        if not self._speaks_only:
            ids = self._ids(prompt)
            texts = [self._tokenizer(one, add_special_tokens=False)["input_ids"] for one in choices]
            return [self._log_likelihood(image_1ND, ids, text) for text in texts]
        # A token may span the border of prompt and answer: all choices are scored from the same place.
        wholes = [self._ids(f"{prompt} {one}".strip()) for one in choices]
        alone = self._ids(prompt)
        shared = min(_shared(alone, whole) for whole in wholes)
        return [self._log_likelihood(image_1ND, whole[:shared], whole[shared:]) for whole in wholes]

    def _log_likelihood(self, image_1ND: Tensor, before: Sequence[int], answer: Sequence[int]) -> float:
        import torch

        language = self._model.language_model
        labels_1T = torch.tensor([list(answer)], device=self._device)
        with torch.inference_mode():
            if self._speaks_only:
                inputs_1SD = self._embedded(image_1ND, [*before, *answer])
                logits_1SV = language(inputs_embeds=inputs_1SD).logits[:, -len(answer) - 1 : -1]
            else:
                inputs_1SD = self._embedded(image_1ND, before)
                logits_1SV = language(inputs_embeds=inputs_1SD, labels=labels_1T).logits
            logs_1SV = logits_1SV.float().log_softmax(-1)
            return float(logs_1SV.gather(-1, labels_1T[..., None]).sum())


def as_asked(prompt: str) -> str:
    """A question in BLIP-2's form; one already in it, or an empty one (a caption), is unchanged."""
    if not prompt.strip() or prompt.lstrip().startswith("Question:"):
        return prompt
    return QUESTION.format(prompt)


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """The length of the common prefix of two token sequences."""
    pairs = zip(first, second, strict=False)
    return next(
        (place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second))
    )
