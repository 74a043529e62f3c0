"""A benchmark result as an SVG picture: which fraction of the machine's limit each figure reaches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from minigpt4.core.storage.atomic import replacing
from minigpt4.tui.bench.result import Result, machine_line, shown

WIDTH, ROW, TOP = 760, 30, 84
NAME, BAR, BAR_WIDTH = 16, 150, 320
INK, FAINT, FILL = "#1f2933", "#d5dbe1", "#2f7d95"


def draw(result: Result, path: Path) -> None:
    """Write the picture; raises OSError."""
    height = TOP + ROW * len(result.figures) + 16
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_elements(result),
        "</svg>\n",
    ]
    with replacing(path) as draft:
        draft.write_text("\n".join(lines), encoding="utf-8")


def _elements(result: Result) -> Iterator[str]:
    choices = ", ".join(f"{name} {value}" for name, value in result.choices.items())
    yield _text(NAME, 28, f"{result.bundle}: {choices}", size=16)
    yield _text(NAME, 50, machine_line(result.machine))
    yield _text(NAME, 70, "A whole bar is what memory bandwidth and arithmetic allow.", size=12)
    for place, figure in enumerate(result.figures):
        top = TOP + ROW * place
        value = shown(figure.median, figure.unit)
        yield _text(NAME, top + 19, figure.name)
        share = result.share(figure)
        if share is None:
            yield _text(BAR, top + 19, value)
            continue
        yield f'<rect x="{BAR}" y="{top + 6}" width="{BAR_WIDTH}" height="18" fill="{FAINT}"/>'
        filled = BAR_WIDTH * min(share, 1)
        yield f'<rect x="{BAR}" y="{top + 6}" width="{filled:.1f}" height="18" fill="{FILL}"/>'
        limit = shown(result.limits[figure.name], figure.unit)
        yield _text(BAR + BAR_WIDTH + 12, top + 19, f"{value}, {share:.0%} of {limit}")


def _text(x: int, y: int, text: str, *, size: int = 14) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}">{escape(text)}</text>'
