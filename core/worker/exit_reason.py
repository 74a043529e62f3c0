"""Why an engine's process exited, as a sentence and what to do about it."""

from __future__ import annotations

import re
import signal
from contextlib import suppress

from minigpt4.core.worker.messages import Exited

STDERR_BYTES = 8192
"""How much of its stderr is kept: a Python traceback and the output of native code before it."""

SMALLER = (
    "Close other programs, or choose a smaller quantisation, a shorter context or the bundle 'mini'; "
    "then restart the model."
)
DAMAGED = (
    "Restart the model. If it happens again, run `minigpt4 models verify` on its bundle, "
    "or choose the other backend (torch or llamacpp)."
)
ADVICE = {
    signal.SIGKILL: ("was killed, most likely because memory ran out", SMALLER),
    signal.SIGSEGV: ("crashed in native code", DAMAGED),
    signal.SIGABRT: ("aborted in native code", DAMAGED),
    signal.SIGBUS: (
        "lost a file or memory that it was reading",
        "Check that the disk of the model files is mounted and not full; then restart the model.",
    ),
    signal.SIGFPE: ("crashed in native code", DAMAGED),
    signal.SIGILL: (
        "met an instruction that this processor does not have",
        "Install llama-cpp-python again so that it is compiled on this machine (pip install "
        "--force-reinstall --no-binary llama-cpp-python llama-cpp-python), or choose the backend torch.",
    ),
}
IMPORT_ERROR = re.compile(r"^(?:ModuleNotFoundError|ImportError): (.*)$", re.MULTILINE)


def exited(code: int, stderr: str) -> Exited:
    """The event for a process that exited with `code` (negative: a signal) and wrote `stderr`."""
    if code < 0:
        return _signalled(-code, stderr)
    missing = IMPORT_ERROR.findall(stderr)
    if code and missing:
        reason = str(missing[-1]).strip().rstrip(".")
        return Exited(
            f"The model's process could not load a package: {reason}.",
            "Install minigpt4 again, with the extra of the backend (pip install 'minigpt4[llama]' for "
            "llama.cpp); `minigpt4 doctor` shows what is missing.",
            stderr,
        )
    return Exited(
        f"The model's process ended by itself (exit code {code}).",
        "Restart the model; its last output is below.",
        stderr,
    )


def not_started(error: OSError, program: str) -> Exited:
    """The event for a process that could not be started at all."""
    return Exited(
        f"The model's process could not be started ({program or 'no Python'}: {error.strerror or error}).",
        "Close other programs if memory is short; otherwise install minigpt4 again.",
    )


def garbled(reason: str, stderr: str) -> Exited:
    """The event for a process whose output cannot be read as events."""
    return Exited(
        f"The model's process sent something that cannot be read: {reason}.",
        "Restart the model; if it happens again, install minigpt4 again.",
        stderr,
    )


def _signalled(number: int, stderr: str) -> Exited:
    name = f"signal {number}"
    with suppress(ValueError):
        name = f"{name}, {signal.Signals(number).name}"
    what, advice = "was killed from outside", "Restart the model."
    if number in ADVICE:
        what, advice = ADVICE[signal.Signals(number)]
    return Exited(f"The model's process {what} ({name}).", advice, stderr)
