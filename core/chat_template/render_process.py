"""The child's side of `Renderer`: renders one chat template, within limits that it cannot lift.

Jinja's sandbox keeps a template from Python's internals. It does not bound loops, recursion or the length of
strings, so the kernel does: the processor time of a render by a timer whose signal ends the process, memory
and open files by resource limits. No file can be opened here, whatever a template finds.

The first line of the input is the template's source, each further one a conversation; all lines are JSON.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Never

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

PROCESSOR_S = 2.0
"""Processor time of one render; templates of real families take under 1 ms, their compilation 30 ms."""

MEMORY_BYTES = 256 << 20
"""Memory of a render, in addition to the process's own."""

MOST_TEXT = 1 << 20
"""Characters that a template may write."""

REASON_LENGTH = 200


class RefusedError(TemplateError):
    """The template called `raise_exception`."""


class GenerationTag(Extension):
    """`{% generation %}`, which marks answers for transformers in training; its content is rendered as is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it up for chat templates, without anything that reads files."""
    jinja = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    del jinja.globals["lipsum"]
    jinja.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}
    jinja.filters["tojson"] = _to_json
    return jinja


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each request until the input ends; nothing that a template does raises here."""
    jinja = environment()
    _use_what_is_read_late(jinja)
    _limit()
    source = json.loads(requests.readline())
    template: list[Any] = []

    def compiled() -> Any:
        if not template:
            parsed = jinja.parse(source)
            if next(parsed.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)), None):
                raise TemplateError("it wants to read another file")
            template.append(jinja.from_string(parsed))
        return template[0]

    def rendered(request: dict[str, Any]) -> str:
        parts: list[str] = []
        length = 0
        for part in compiled().generate(**request):
            parts.append(part)
            length += len(part)
            if length > MOST_TEXT:
                raise OverflowError
        return "".join(parts)

    for line in requests:
        request = json.loads(line)
        answer = _answer(lambda request=request: rendered(request))  # type: ignore[misc]
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _answer(render: Callable[[], str]) -> dict[str, str]:
    """The text, or the kind of a failure and its reason; the process ends if it takes too long."""
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
    try:
        return {"text": render()}
    except RefusedError as error:
        return {"kind": "refused", "reason": _sentence(error)}
    except TemplateSyntaxError as error:
        return {"kind": "syntax", "reason": f"line {error.lineno}: {_sentence(error.message)}"}
    except OverflowError:
        return {"kind": "limit", "reason": f"it writes more than {MOST_TEXT} characters"}
    except MemoryError:
        return {"kind": "limit", "reason": f"it takes more than {MEMORY_BYTES >> 20} MiB of memory"}
    except RecursionError:
        return {"kind": "limit", "reason": "it calls itself without an end"}
    except Exception as error:
        return {"kind": "failed", "reason": _sentence(error)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _sentence(problem: object) -> str:
    """The reason in one line, without control characters for a terminal."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(problem)[: 4 * REASON_LENGTH])
    return " ".join(text.split())[:REASON_LENGTH].rstrip(".")


def _raise(message: object = "") -> Never:
    raise RefusedError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(value: Any, ensure_ascii: bool = False, **form: Any) -> str:
    """Serialise without Jinja's HTML escapes, as transformers does."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **form)


def _use_what_is_read_late(jinja: ImmutableSandboxedEnvironment) -> None:
    """Use everything once that is read from a file at its first use: modules and the time zone."""
    jinja.from_string("{{ strftime_now('%c') }}{{ 'a' | wordwrap | pprint }}").render()
    with suppress(ZeroDivisionError):
        jinja.from_string("{{ 1 // 0 }}").render()


def _limit() -> None:
    """Forbid files and further processes, and limit memory, from here on."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # by default it ends the process, even in native code
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for what, limit in ((resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_FSIZE, 0)):
        resource.setrlimit(what, (limit, limit))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the parent; this process ends with it
    serve(sys.stdin.buffer, sys.stdout.buffer)
