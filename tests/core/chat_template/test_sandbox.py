"""What a hostile template can do: fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minigpt4.core.chat_template.sandbox import Renderer, RenderError

Open = Callable[[str], Renderer]

DEEP = 50_000
FAILURES = {
    "loops": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "limit"),
    "a number of a million digits": ("{{ (9 ** 999999) ** 999999 }}", "limit"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "limit"),
    "recursion that doubles": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "limit",
    ),
    "a block in itself": ("{% block a %}{{ self.a() }}{% endblock %}", "limit"),
    "nesting": ("{{ " + "(" * DEEP + "1" + ")" * DEEP + " }}", "limit"),
    "a long text": ("{{ 'a' * 10 ** 10 }}", "limit"),
    "padding": ("{{ 'a'.ljust(10 ** 10) }}", "limit"),
    "a wide number": ("{{ '%9999999999d' % 1 }}", "limit"),
    "doubling": (
        "{% set n = namespace(x='a') %}{% for i in range(50) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "limit",
    ),
    "much text": ("{% for i in range(99999) %}0123456789abcdef{% endfor %}", "limit"),
    "a class": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "failed"),
    "a module": ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "failed"),
    "a wide format": ("{{ '{:>9999999999}'.format(1) }}", "limit"),
    "an include": ("{% include '/etc/passwd' %}", "failed"),
    "an import": ("{% if 0 %}{% import 'os' as os %}{% endif %}", "failed"),
    "a base": ("{% extends 'base.html' %}", "failed"),
    "a change": ("{{ messages.append(1) }}", "failed"),
    "no Jinja": ("{% nonsense %}", "syntax"),
    "an undefined name": ("{{ nothing.at.all }}", "failed"),
}


@pytest.fixture
def renderer() -> Iterator[Open]:
    made: list[Renderer] = []

    def make(source: str) -> Renderer:
        made.append(Renderer(source))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_template_must_not_do_is_an_error_soon(name: str, renderer: Open) -> None:
    source, kind = FAILURES[name]
    started = time.monotonic()
    with pytest.raises(RenderError) as caught:
        renderer(source).render([])
    assert caught.value.kind == kind
    assert time.monotonic() - started < 50
    assert len(caught.value.reason) < 300


def test_a_template_that_never_ends_is_killed_and_the_next_render_still_works(renderer: Open) -> None:
    endless = (
        "{% if messages %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    )
    one = renderer(endless + "{% endif %}ok")
    with pytest.raises(RenderError, match="without an end"):
        one.render([{"role": "user"}])
    assert one.render([]) == "ok"


def test_no_file_can_be_opened_and_no_process_started_in_a_renders_process(renderer: Open) -> None:
    one = renderer("ok")
    one.render([])
    assert one._process is not None
    limits = Path(f"/proc/{one._process.pid}/limits").read_text()
    for what in ("Max open files", "Max processes", "Max file size"):
        line = next(line for line in limits.splitlines() if line.startswith(what))
        assert line.removeprefix(what).split()[:2] == ["0", "0"]


def test_a_templates_own_words_are_one_line_without_escape_codes(renderer: Open) -> None:
    with pytest.raises(RenderError) as caught:
        renderer("{{ raise_exception('no \x1b[31m pictures\n\there ' ~ 'a' * 999) }}").render([])
    assert caught.value.kind == "refused"
    assert caught.value.reason.startswith("no [31m pictures here aaa")
    assert len(caught.value.reason) <= 200


def test_templates_have_what_transformers_gives_them(renderer: Open) -> None:
    source = (
        "{% for m in messages %}{% if loop.index == 3 %}{% break %}{% endif %}{{ m.role }}{% endfor %}|"
        "{% generation %}{{ add_generation_prompt }}{% endgeneration %}|{{ {'ä': '<'} | tojson }}|"
        "{{ strftime_now('%Y') | length }}|{{ tools is none }}|{{ namespace(a=1).a }}"
        "{% if true %}\n  {% set x = 1 %}\nend{% endif %}"
    )
    messages = [{"role": str(number)} for number in range(5)]
    rendered = renderer(source).render(messages, add_generation_prompt=True, tools=None)
    assert rendered == '01|True|{"ä": "<"}|4|True|1end'


def test_the_process_ends_with_its_renderer(renderer: Open) -> None:
    one = renderer("ok")
    one.render([])
    assert one._process is not None
    pid = one._process.pid
    one.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert one.render([]) == "ok"


def test_a_process_that_was_killed_is_an_error_and_then_replaced(renderer: Open) -> None:
    one = renderer("ok")
    one.render([])
    assert one._process is not None
    one._process.kill()
    one._process.wait()
    with pytest.raises(RenderError, match="its process ended"):
        one.render([])
    assert one.render([]) == "ok"
