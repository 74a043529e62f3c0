"""The messages between an engine's process and its parent."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.types import Sampling
from minigpt4.core.worker import messages
from minigpt4.core.worker.messages import (
    ChatMessage,
    Command,
    Event,
    Failed,
    Finished,
    Generate,
    Load,
    ProtocolError,
    TextDelta,
    receive,
    send,
)


def one_way() -> tuple[Connection, Connection]:
    """The reading and the writing end of a pipe."""
    reader, writer = Pipe(duplex=False)
    return reader, writer


def received(data: bytes, kind: type[Command] | type[Event] = Event) -> Command | Event | None:
    """The message received from these bytes, after which the other end closes."""
    reader, writer = one_way()
    with reader:
        with writer:
            thread = threading.Thread(target=lambda: os.write(writer.fileno(), data))
            thread.start()
            thread.join()
        return receive(reader, kind)


@given(st.text(st.characters(), max_size=50), st.lists(st.text(max_size=20), max_size=3))
def test_commands_and_events_read_back_as_they_were(text: str, names: list[str]) -> None:
    chat = (ChatMessage("user", text, tuple(Path(name) for name in names)), ChatMessage("system", ""))
    reader, writer = one_way()
    with reader, writer:
        for command in (
            Generate("1", chat, Sampling(top_p=0.9), 2),
            Load(EngineOptions("mini", projection=Path(text), threads=2)),
        ):
            send(writer, command)
            assert receive(reader, Command) == command
        for event in (TextDelta("1", text), Finished("1", "stop", 1, 2, 0.5, None), Failed(None, text)):
            send(writer, event)
            assert receive(reader, Event) == event


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def test_bytes_that_are_no_message_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    good = framed(pickle.dumps(TextDelta("1", "hello")))
    assert received(good) == TextDelta("1", "hello")
    for cut in range(len(good)):
        assert received(good[:cut]) is None, "an end in the middle of a message is an end"
    for _ in range(200):
        with pytest.raises(ProtocolError):
            received((0x7F000000 + rng.randrange(2**24)).to_bytes(4, "big") + rng.randbytes(40))
        with pytest.raises(ProtocolError):
            received(framed(rng.randbytes(40)))
    for wrong in ([1], {}, "TextDelta", TextDelta, eval, os.system, ChatMessage("user", "?"), None):
        for kind in (Command, Event):
            with pytest.raises(ProtocolError):
                received(framed(pickle.dumps(wrong)), kind)
    with pytest.raises(ProtocolError):
        received(good, Command)
    with pytest.raises(ProtocolError):
        received(framed(b""))
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 100)
    with pytest.raises(ProtocolError, match="one message"):
        send(one_way()[1], TextDelta("1", "too long" * 20))


def test_stray_bytes_run_no_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    with pytest.raises(ProtocolError, match="not part of a message"):
        received(framed(pickle.dumps(Bomb())))
    assert not (tmp_path / "made").exists()


def test_the_parent_needs_no_model_library_and_no_numpy() -> None:
    script = "import sys, minigpt4.core.worker.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "llama_cpp", "numpy", "PIL", "gguf"}
    assert not heavy & set(done.stdout.split())
