"""A worker's child with a scripted model in the real engine.

Run by the tests of the worker in place of the real child. The bundle's name says how loading goes,
the last question what the answer does.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.bundles.bundle import ObjectsSpec, load_bundle
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import FetchProgress
from minigpt4.core.engine import Engine
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BundleError
from minigpt4.core.pixels import Picture
from minigpt4.core.types import ImageEmbedding, PromptPiece, ResolvedSampling, Text
from minigpt4.core.worker.server import run

WIDTH, TOKENS = 4, 3
CONTROL = 1000
CONTEXT = 4_000_000


def wait_for_ever() -> None:
    threading.Event().wait()


class ScriptedLanguageModel:
    """Generates one byte a token: the text after the last colon of the question."""

    backend = "scripted_child"
    width = WIDTH

    def __init__(self, context: int) -> None:
        self.context = context
        self.computed = 0

    def tokenize(self, *texts: Text) -> list[int]:
        tokens: list[int] = []
        for text in texts:
            data = text.text.encode()
            tokens += [byte + CONTROL for byte in data] if text.control else data
        return tokens

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_end(self, token: int) -> bool:
        return token == CONTROL

    def prefill(self, prompt: Sequence[PromptPiece], cancelled: Callable[[], bool]) -> bool:
        """Takes for ever after the text "endless" of the conversation, unless it is cancelled."""
        pause = threading.Event()
        while last_question(prompt) == "endless":
            if cancelled():
                return False
            pause.wait(0.001)
        return True

    def generate(
        self,
        prompt: Sequence[PromptPiece],
        sampling: ResolvedSampling,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        grey = [int(piece.tokens_ND[0, 0]) for piece in prompt if isinstance(piece, ImageEmbedding)]
        script = self._script(last_question(prompt), grey, sampling)
        for byte in itertools.islice(script, sampling.max_tokens):
            if cancelled():
                return
            yield byte

    def _script(self, question: str, grey: list[int], sampling: ResolvedSampling) -> Iterator[int]:
        order, _, rest = question.partition(":")
        match order:
            case "say":
                yield from rest.encode()
            case "grey":
                yield from str(grey).encode()
            case "pid":
                yield from str(os.getpid()).encode()
            case "seed":
                yield from f"{sampling.seed} {sampling.temperature}".encode()
            case "much":
                yield from itertools.islice(itertools.cycle("é€😀 ".encode()), int(rest))
            case "endless":
                pause = threading.Event()
                while True:
                    pause.wait(0.001)
                    yield ord("a")
            case "think":
                wait_for_ever()
            case "start":
                yield from f"{subprocess.Popen(['sleep', '600']).pid}.".encode()
                wait_for_ever()
            case "noise":
                print("native code says hello")
                os.write(1, b"and once more\n")
                yield from b"quiet"
            case "bug":
                yield from b"so far"
                raise ValueError("seven [/] is not a colour")
            case _:
                yield from b"last words"
                end(order)

    def beams(
        self,
        prompt: Sequence[PromptPiece],
        sampling: ResolvedSampling,
        beams: int,
        length_penalty: float = 1.0,
        stop: Sequence[str] = (),
    ) -> list[int]:
        return list(f"{beams} beams".encode())

    def logits(self, prompt: Sequence[PromptPiece]) -> NDArray[np.float32]:
        raise NotImplementedError

    def reset(self) -> None:
        self.computed = 0

    def close(self) -> None:
        self.computed = 0


def last_question(prompt: Sequence[PromptPiece]) -> str:
    """The last stretch of the prompt that a person or the model wrote."""

    def is_own(piece: PromptPiece) -> bool:
        return isinstance(piece, int) and piece < CONTROL

    backwards = itertools.dropwhile(lambda piece: not is_own(piece), reversed(prompt))
    own = [piece for piece in itertools.takewhile(is_own, backwards) if isinstance(piece, int)]
    return bytes(reversed(own)).decode()


def end(how: str) -> None:
    print(f"about to {how}", file=sys.stderr, flush=True)
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "oom":
            os.kill(os.getpid(), signal.SIGKILL)
        case "illegal":
            os.kill(os.getpid(), signal.SIGILL)
        case "exit":
            os._exit(7)
        case "memory":
            raise MemoryError
        case "import":
            raise ModuleNotFoundError("No module named 'nosuchmodel'")


class ScriptedEncoder:
    """Sees the mean grey of a picture, and in it a dog that fills the left half."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        if self._bundle == "never-encodes":
            wait_for_ever()
        return np.full((TOKENS, WIDTH), np.asarray(picture.image).mean(), dtype=np.float32)

    def object_boxes(self, picture: Picture) -> NDArray[np.float32]:
        brightness = np.asarray(picture.image).mean() / 255
        return np.array([[18, brightness, 0, 0, 0.5, 1]], np.float32)


def load_engine(
    choice: EngineOptions, progress: Callable[[FetchProgress], None], notice: Callable[[str], None]
) -> Engine:
    notice(str(os.getpid()))
    if choice.bundle == "never-loads":
        progress(FetchProgress("weights.bin", 1, 10))
        wait_for_ever()
    if choice.bundle == "damaged":
        raise BundleError("The file weights.bin is damaged; fetch it again.")
    end(choice.bundle)
    mini = load_bundle("mini")
    bundle = replace(
        mini,
        name=choice.bundle,
        template="smollm2-by-itself" if choice.bundle == "by-itself" else "smollm2",
        objects=ObjectsSpec("ssd-mobilenet-v2", File("detector.pb", 1), limit=1, min_score=0.1),
        projection=replace(mini.projection, image_tokens=TOKENS, outputs=WIDTH),
        sampling=ResolvedSampling(max_tokens=CONTEXT, temperature=0.0),
    )
    language = ScriptedLanguageModel(choice.context or CONTEXT)
    return Engine(bundle, language, lambda: ScriptedEncoder(choice.bundle), "fingerprint")


if __name__ == "__main__":
    run(load_engine)
