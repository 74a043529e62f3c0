"""Benchmark figures of a bundle's engine: latencies, rates and peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from minigpt4.core.engine import Engine
from minigpt4.core.memory import most_held
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.types import ImageEmbedding, Sampling, Text

if TYPE_CHECKING:
    from minigpt4.core.engine_options import EngineOptions

Unit = Literal["s", "tokens/s", "bytes"]

QUESTION = "What is in this picture?"
MORE = "What else is there to see?"

RUNS, LEAST_RUNS = 5, 3
ENOUGH_S = 15.0
"""A figure is measured LEAST_RUNS times, then up to RUNS times until the total reaches these seconds."""

PREFILLED = 256
DECODED = 32
PICTURE_SIZE = (1600, 1200)
BUSY_LOOP = "import os, sys\nparent = int(sys.argv[1])\nwhile os.getppid() == parent:\n    pass\n"


@dataclass(frozen=True)
class Figure:
    """The median, lowest and highest value of repeated measurements."""

    name: str
    unit: Unit
    median: float
    low: float
    high: float
    runs: int
    positions: int = 0
    """Positions of the language model that one measurement computes."""

    looks: int = 0
    """Pictures that one measurement encodes."""

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit == "tokens/s"

    @classmethod
    def of(
        cls, name: str, unit: Unit, values: Sequence[float], *, positions: int = 0, looks: int = 0
    ) -> Figure:
        """Summarise measured values."""
        middle = statistics.median(values)
        return cls(name, unit, middle, min(values), max(values), len(values), positions, looks)


class Bench:
    """Measures one bundle in this process, with random pictures that are removed from the disk cache."""

    def __init__(self, load: Callable[[EngineOptions], Engine], options: EngineOptions) -> None:
        self._load, self._options = load, options
        self._rng = np.random.default_rng()
        self._pictures: list[bytes] = []
        self.look_operations = 0
        """Floating-point operations of encoding a picture, once that has been measured."""

    def figures(self, busy_loops: int) -> Iterator[Figure]:
        """Yield one figure after another; `busy_loops` other processes run during `busy_ask`."""
        loads: list[float] = []
        engine: Engine | None = None
        try:
            while engine is None or _goes_on(loads):
                if engine is not None:
                    engine.close()
                begun = time.perf_counter()
                engine = self._load(self._options)
                loads.append(time.perf_counter() - begun)
            yield Figure.of("load", "s", loads)
            yield from self._of(engine, busy_loops)
        finally:
            if engine is not None:
                for picture in self._pictures:
                    engine.forget(picture)
                engine.close()
        yield Figure.of("peak_memory", "bytes", [most_held()])

    def _of(self, engine: Engine, busy_loops: int) -> Iterator[Figure]:
        engine.look(self._picture())  # loads the vision tower
        self._count_operations(engine)
        new: list[float] = []
        seen: list[float] = []
        while _goes_on(new):
            picture = self._picture()
            new.append(_seconds(partial(engine.look, picture)))
            seen.append(_seconds(partial(engine.look, picture)))
        yield Figure.of("look", "s", new, looks=1)
        yield self._prefill(engine)
        first, positions = self._first_tokens(engine)
        yield Figure.of("first_token", "s", first, positions=positions, looks=1)
        yield self._decode(engine)
        yield self._second_turn(engine)
        yield Figure.of("cached_picture", "s", seen)
        with busy(busy_loops):
            beside, _ = self._first_tokens(engine)
        yield Figure.of("busy_ask", "s", beside, positions=positions, looks=1)

    def _count_operations(self, engine: Engine) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            engine.look(self._picture())
        self.look_operations = counter.get_total_flops()

    def _prefill(self, engine: Engine) -> Figure:
        language = engine.language
        count = min(PREFILLED, language.context // 2)
        rates: list[float] = []
        while _goes_on([count / rate for rate in rates]):
            words = " ".join(str(number) for number in self._rng.integers(0, 1000, count))
            prompt = language.tokenize(Text(words))[:count]
            language.reset()
            rates.append(len(prompt) / _seconds(partial(language.logits, prompt)))
        return Figure.of("prefill", "tokens/s", rates)

    def _first_tokens(self, engine: Engine) -> tuple[list[float], int]:
        """Measure seconds to the first token with nothing cached; also returns the prompt's tokens."""
        seconds: list[float] = []
        positions = 0
        while _goes_on(seconds):
            engine.language.reset()
            picture = self._picture()
            begun = time.perf_counter()
            reply = engine.reply([User(QUESTION, images=[engine.look(picture)])], Sampling(max_tokens=1))
            reply.read()
            seconds.append(time.perf_counter() - begun)
            positions = reply.prompt_tokens
        return seconds, positions

    def _decode(self, engine: Engine) -> Figure:
        """Measure the rate of decoding single tokens after a question; the end token is ignored."""
        language = engine.language
        picture = engine.look(self._picture())
        prompt: list[int | ImageEmbedding] = [*language.tokenize(Text(QUESTION)), picture]
        language.reset()
        token = int(language.logits(prompt).argmax())
        rates = []
        for _ in range(min(DECODED, language.context - len(prompt) - len(picture))):
            prompt.append(token)
            begun = time.perf_counter()
            token = int(language.logits(prompt).argmax())
            rates.append(1 / (time.perf_counter() - begun))
        return Figure.of("decode", "tokens/s", rates)

    def _second_turn(self, engine: Engine) -> Figure:
        """Measure seconds to the first token of a second answer, right after the first one."""
        seconds: list[float] = []
        positions = 0
        while _goes_on(seconds):
            talk: list[Message] = [User(QUESTION, images=[engine.look(self._picture())])]
            first = engine.reply(talk, Sampling(max_tokens=8))
            talk += [Assistant(first.read()), User(MORE)]
            begun = time.perf_counter()
            second = engine.reply(talk, Sampling(max_tokens=1))
            second.read()
            seconds.append(time.perf_counter() - begun)
            positions = second.computed_tokens
        return Figure.of("second_turn", "s", seconds, positions=positions)

    def _picture(self) -> bytes:
        """Return a random JPEG that no cache holds."""
        coarse = self._rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        buffer = BytesIO()
        Image.fromarray(coarse).resize(PICTURE_SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG")
        self._pictures.append(buffer.getvalue())
        return self._pictures[-1]


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep processors busy with other processes, which end with the block or with this process."""
    command = [sys.executable, "-I", "-S", "-c", BUSY_LOOP, str(os.getpid())]
    running: list[subprocess.Popen[bytes]] = []
    try:
        running += [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(loops)]
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def _goes_on(seconds: Sequence[float]) -> bool:
    """Whether a figure with these measurements needs another one."""
    return len(seconds) < LEAST_RUNS or (len(seconds) < RUNS and sum(seconds) < ENOUGH_S)


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
