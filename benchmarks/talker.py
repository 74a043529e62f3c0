"""A fake engine process that streams text at a steady rate, and the program run with it.

    python benchmarks/talker.py chat      `minigpt4 chat` with the fake engine
    python benchmarks/talker.py           the fake engine itself, on pipes

It sends 50 tokens per second without end, so that a benchmark measures the app alone.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time

from minigpt4.core.worker.messages import (
    Cancel,
    Command,
    ContextUsage,
    CountTokens,
    Event,
    Finished,
    Generate,
    Load,
    Phase,
    Ready,
    TextDelta,
    receive,
    send,
)
from minigpt4.core.worker.server import claim_pipes

TOKENS_PER_S = 50
CONTEXT = 1_000_000
ANSWER = """The picture shows a *small harbour* in the morning, with a row of boats and two gulls above them.
The light comes from the left, low and yellow, and the water is so still that every mast stands in it a
second time. Nobody is to be seen on the quay, but a door of the nearest house is open.

Three things are worth a second look:

- a red boat, nearest to the quay
- a blue one behind it, its sails down
- the lamp at the end of the pier, which is still lit

Behind the houses a road climbs the hill in two long bends, with a wall of grey stones beside it. A cart
stands at the upper bend, too far away to tell what it carries; the horse has its head down, as if it had
been waiting there for a while. On the slope above there are sheep, or white stones.

The boats that float could be counted like this:

```python
boats = [boat for boat in harbour if boat.is_afloat]
print(len(boats))
```

"""


def main() -> None:
    if len(sys.argv) > 1:
        run_program()
    else:
        Talker().listen()


def run_program() -> None:
    """Run the command line with this file as the engine process."""
    from minigpt4.core.worker import client as worker
    from minigpt4.tui import cli

    worker.COMMAND = (sys.executable, "-P", __file__)
    cli.main()


class Talker:
    """Answers every question with the same text."""

    def __init__(self) -> None:
        self._commands, self._events = claim_pipes()
        self._lock = threading.Lock()
        self._answering = ""

    def listen(self) -> None:
        """Serve until the parent closes the pipe."""
        while (command := receive(self._commands, Command)) is not None:
            match command:
                case Load(choice):
                    self._send(Ready(choice.bundle, "talker", CONTEXT, 9, 0.0))
                case CountTokens(request, messages):
                    self._send(ContextUsage(request, 20 * len(messages), CONTEXT, 0))
                case Generate(request):
                    self._answering = request
                    threading.Thread(target=self._talk, args=(request,), daemon=True).start()
                case Cancel():
                    self._answering = ""
        os._exit(0)

    def _talk(self, request: str) -> None:
        self._send(Phase(request, "prefill"))
        self._send(Phase(request, "decode"))
        words = ANSWER.replace(" ", " \0").replace("\n", "\n\0").split("\0")
        started = time.monotonic()
        for number, word in enumerate(itertools.cycle(words)):
            time.sleep(max(0.0, started + number / TOKENS_PER_S - time.monotonic()))
            if self._answering != request:
                break
            self._send(TextDelta(request, word))
        self._send(Finished(request, "cancelled", 20, number, 0.0, TOKENS_PER_S))

    def _send(self, event: Event) -> None:
        with self._lock:
            send(self._events, event)


if __name__ == "__main__":
    main()
