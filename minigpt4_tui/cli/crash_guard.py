"""Reports crashes of native code that reads users' files: the command still ends with a sentence."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from minigpt4.core.worker.exit_reason import exited

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)

OPENMP_USERS = ("torch", "llama_cpp")
"""Modules whose native code starts threads that Python does not count."""

_is_guarded = False


def continue_in_child(bundle: str = "NAME") -> None:
    """Fork once and return in the child; the parent waits for it and exits with its exit code.

    If the child crashes, a sentence advises verifying `bundle`, and the exit code is 1. Does nothing without
    fork(2), or while another thread is running, which a child would not have.
    """
    global _is_guarded
    if _is_guarded or not hasattr(os, "fork") or _may_have_threads():
        return
    _is_guarded = True
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        _wait_for(child, bundle)


def _may_have_threads() -> bool:
    """Whether this process may have other threads, which a forked child would wait for forever.

    Those of numpy's OpenBLAS do not count: it stops them before a fork.
    """
    return threading.active_count() > 1 or not sys.modules.keys().isdisjoint(OPENMP_USERS)


def _wait_for(child: int, bundle: str) -> None:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child, too
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if -code in CRASHES:
        sentence = exited(code, "").sentence
        advice = f"Check its files with `minigpt4 models verify {bundle}`, or update llama-cpp-python."
        print(f"minigpt4: {sentence} {advice}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(code if code >= 0 else 128 - code)
