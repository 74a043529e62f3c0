"""A contact sheet: many thumbnails with their captions on one page, as HTML or PNG."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.atomic import replacing

SUFFIXES = (".html", ".png")

SIDE = 192
"""Pixels of a thumbnail's longer side."""

COLUMNS, MARGIN, LINES, FONT_SIZE = 6, 8, 3, 12
"""Layout of the PNG: pictures per row, pixels between them, caption lines below them, font size."""

_STYLE = f"""
body {{ font: 14px/1.35 system-ui, sans-serif; margin: 1.5rem; background: #fff; color: #222 }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1.1rem; margin: 1.8rem 0 .6rem }}
section {{ display: flex; flex-wrap: wrap; gap: 12px }}
.group {{ display: flex; gap: 6px; padding: 6px; border: 1px solid #bbb; border-radius: 6px }}
figure {{ margin: 0; width: {SIDE}px }} img {{ display: block; max-width: 100% }}
figcaption b {{ display: block; overflow-wrap: anywhere; font-weight: 600 }}
figcaption p {{ margin: .2rem 0 0; overflow-wrap: anywhere }}
@media (prefers-color-scheme: dark) {{ body {{ background: #181818; color: #ddd }} }}
"""


@dataclass(frozen=True, eq=False)
class Cell:
    """One photo on the sheet; `image` is its thumbnail."""

    title: str
    captions: tuple[str, ...]
    image: Image.Image


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures under a heading, each alone or in a group."""

    heading: str
    groups: tuple[tuple[Cell, ...], ...]


def check_sheet(path: Path) -> None:
    """Raise UsageError if a sheet cannot be written to that path."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"A contact sheet is an .html or a .png file, and '{path}' is neither.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        fault = "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        raise UsageError(f"The contact sheet '{path}' {fault}.")


def thumbnail(image: Image.Image) -> Image.Image:
    """A copy whose longer side has SIDE pixels at most."""
    copy = image.copy()
    copy.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    return copy


def write_sheet(path: Path, title: str, parts: Sequence[Part]) -> None:
    """Write the sheet atomically, in the format of the path's suffix; raises UsageError.

    HTML is one file without scripts or links. PNG shows the start of each photo's first caption.
    """
    check_sheet(path)
    with replacing(path) as draft:
        if path.suffix.lower() == ".png":
            _drawn(parts).save(draft, "PNG")
        else:
            draft.write_text(_page(title, parts), encoding="utf-8", errors="replace")


def _page(title: str, parts: Sequence[Part]) -> str:
    body = "".join(
        f"<h2>{html.escape(part.heading)}</h2>\n<section>\n{''.join(map(_group, part.groups))}</section>\n"
        for part in parts
        if part.groups
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n{body}</html>\n"
    )


def _group(cells: tuple[Cell, ...]) -> str:
    figures = "".join(map(_figure, cells))
    return f'<div class="group">\n{figures}</div>\n' if len(cells) > 1 else figures


def _figure(cell: Cell) -> str:
    captions = "".join(f"<p>{html.escape(caption)}</p>" for caption in cell.captions)
    return (
        f'<figure><img alt="" src="data:image/jpeg;base64,{_jpeg(cell.image)}">'
        f"<figcaption><b>{html.escape(cell.title)}</b>{captions}</figcaption></figure>\n"
    )


def _jpeg(image: Image.Image) -> str:
    file = BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _drawn(parts: Sequence[Part]) -> Image.Image:
    font = ImageFont.load_default(FONT_SIZE)
    step, line = SIDE + MARGIN, FONT_SIZE + 3
    rows: list[str | list[Cell]] = []
    for part in parts:
        cells = [cell for group in part.groups for cell in group]
        if cells:
            rows.append(part.heading)
            rows += [cells[first : first + COLUMNS] for first in range(0, len(cells), COLUMNS)]
    heights = [2 * line if isinstance(row, str) else SIDE + (1 + LINES) * line + MARGIN for row in rows]
    sheet = Image.new("RGB", (COLUMNS * step + MARGIN, sum(heights) + 2 * MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        if isinstance(row, str):
            pen.text((MARGIN, top), row, fill="black", font=font)
        else:
            for column, cell in enumerate(row):
                left = MARGIN + column * step
                sheet.paste(cell.image, (left, top + SIDE - cell.image.height))
                for number, text in enumerate(_lines(cell, font)):
                    pen.text((left, top + SIDE + number * line), text, fill="black", font=font)
        top += height
    return sheet


def _lines(cell: Cell, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The title, then the first caption broken into lines that fit below the picture."""
    words = " ".join(cell.captions[:1]).split()
    lines = [cell.title, ""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > SIDE:
            lines.append(word)
        else:
            lines[-1] = longer
    lines = lines[: 1 + LINES]
    return [_fitting(text, font) for text in lines]


def _fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    while text and font.getlength(text) > SIDE:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text
