"""Exports a conversation as Markdown, with its pictures in a folder, or as one HTML file.

Both contain the active branch. JSON (json_format.py) has every branch and can be imported again.
Text cannot escape its place in the file: none of it becomes a script, a comment that hides the rest, or
another turn of the conversation.
"""

from __future__ import annotations

import base64
import html
import re
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.storage.atomic import replacing
from minigpt4.tui.history.records import ConversationInfo, StoredMessage, StoredPicture
from minigpt4.tui.history.store import Store

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

SPEAKERS = {"user": "You", "assistant": "minigpt4"}

STATE_NOTES = {
    "stopped": "(The answer was stopped here.)",
    "failed": "(The answer failed here.)",
    "writing": "(The answer is still being written.)",
}

BROWSER_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
    "ICO": "image/x-icon",
}
"""Formats that browsers support; other pictures are converted to PNG."""

MAX_RENDERED = 200_000
"""Longest answer, in characters, that is rendered as Markdown; longer ones are shown as plain text."""

# Characters that XML and browsers refuse, and changes of writing direction.
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

TAG = re.compile(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)|<(?=[A-Za-z/!?])")

STYLE = """
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
section { margin: 1.5rem 0; overflow-wrap: anywhere; unicode-bidi: isolate; }
section.user { padding: .5rem 1rem; border-left: .25rem solid #7a8ca0; }
h2, figcaption, footer, .note { font-size: .85rem; font-weight: 600; opacity: .75; }
.plain { white-space: pre-wrap; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8884; }
figure { margin: .5rem 0; } img { max-width: 100%; max-height: 30rem; }
"""


def to_markdown(store: Store, conversation: str, folder: Path) -> Path:
    """Write `TITLE.md` and the folder `pictures` into `folder`; returns the Markdown file.

    Another conversation's file of that name is not overwritten. Raises OSError.
    """
    info, messages = store.get(conversation), store.path(conversation)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {_markdown_line(info.title or 'Conversation')}", _times(info)]
    for message in messages:
        parts.append(f"## {SPEAKERS[message.role]}")
        parts += [_markdown_picture(picture, folder) for picture in message.pictures]
        text = _contained(message.text)
        if message.role == "user":
            text = "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
        parts += [text] if message.text.strip() else []
        parts += [f"*{STATE_NOTES[message.state]}*"] if message.state in STATE_NOTES else []
    target = folder / f"{file_stem(info)}.md"
    with replacing(target) as draft:
        draft.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="replace")
    return target


def to_html(store: Store, conversation: str) -> str:
    """One self-contained page with the pictures inside."""
    info, messages = store.get(conversation), store.path(conversation)
    title = _escaped(info.title or "Conversation")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            # Nothing is run or loaded, even if a text got past the escaping.
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1 dir=auto>{title}</h1>",
            *(_html_message(message) for message in messages),
            f"<footer>{html.escape(_times(info))}</footer>\n</body>\n</html>\n",
        ]
    )


def _times(info: ConversationInfo) -> str:
    started, changed = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(second)) for second in (info.created, info.updated)
    )
    return f"Started {started}, last changed {changed}."


def file_stem(info: ConversationInfo) -> str:
    """A file name that every file system accepts: the title, and the id to make it unique."""
    words = re.findall(r"\w+", info.title.lower())
    # 60 characters of 4 bytes stay under the limit of 255 bytes for file names.
    stem = "-".join(words)[:50].strip("-_") or "conversation"
    return f"{stem}-{info.id[:8]}"


def _markdown_line(text: str) -> str:
    """The text as one line of Markdown, fully escaped."""
    return re.sub(r"([\\`*_{}\[\]()<>#!|&~])", r"\\\1", FORBIDDEN.sub("\ufffd", " ".join(text.split())))


def _markdown_picture(picture: StoredPicture, folder: Path) -> str:
    name = _markdown_line(picture.name)
    target = folder / "pictures" / f"{picture.digest[:16]}{picture.path.suffix}"
    try:
        data = picture.path.read_bytes()
    except OSError:
        return f"*(The picture {name} is missing.)*"
    if not target.exists():
        with replacing(target) as draft:
            draft.write_bytes(data)
    return f"![{name}](pictures/{target.name})"


def _contained(text: str) -> str:
    """Markdown that stays in its place: HTML is text, headings rank below ours, the last fence is closed."""
    text = FORBIDDEN.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > MAX_RENDERED:
        longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
        fence = "`" * (longest + 1)
        return f"{fence}\n{text}\n{fence}"
    lines = text.split("\n")
    blocks = [block for block in _layout().parse(text) if block.type in ("fence", "code_block") and block.map]
    code = {line for block in blocks for line in range(*(block.map or ()))}
    lines = [line if number in code else _without_tags(line) for number, line in enumerate(lines)]
    last = blocks[-1] if blocks else None
    if last is not None and last.type == "fence" and last.level == 0 and last.map:
        start, end = last.map
        ending = lines[end - 1].strip()
        is_closed = end - 1 > start and len(ending) >= len(last.markup) and not ending.strip(last.markup[0])
        if end >= len(lines) and not is_closed:
            lines.append(last.markup)
    return "\n".join(lines)


def _without_tags(line: str) -> str:
    """The line with HTML escaped, except in backticks, and headings two levels lower."""
    line = TAG.sub(lambda found: "&lt;" if found[0] == "<" else found[0], line)
    return re.sub(r"^ {0,3}(#{1,6})(?=\s|$)", lambda found: "#" * min(6, len(found[1]) + 2), line)


def _layout() -> MarkdownIt:
    """Markdown without HTML and without remote pictures."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def _escaped(text: str) -> str:
    return html.escape(FORBIDDEN.sub("\ufffd", text))


def _html_message(message: StoredMessage) -> str:
    parts = [f"<section class={message.role} dir=auto>\n<h2>{SPEAKERS[message.role]}</h2>"]
    parts += [_html_picture(picture) for picture in message.pictures]
    if message.role == "assistant" and len(message.text) <= MAX_RENDERED:
        parts.append(str(_layout().render(FORBIDDEN.sub("\ufffd", message.text))))
    elif message.text.strip():
        parts.append(f"<div class=plain>{_escaped(message.text)}</div>")
    if message.state in STATE_NOTES:
        parts.append(f"<p class=note>{STATE_NOTES[message.state]}</p>")
    return "\n".join([*parts, "</section>"])


def _html_picture(picture: StoredPicture) -> str:
    caption = f"{_escaped(picture.name)}, {picture.width} x {picture.height}"
    try:
        data = picture.path.read_bytes()
        kind = BROWSER_TYPES.get(picture.format)
        if kind is None:
            kind, data = "image/png", _as_png(data)
    except OSError:
        return f"<p class=note>(The picture {caption} is missing.)</p>"
    source = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _as_png(data: bytes) -> bytes:
    """Raises OSError if the picture cannot be decoded any more."""
    from minigpt4.core.errors import ImageError
    from minigpt4.core.pixels import open_picture

    page = BytesIO()
    try:
        open_picture(data).image.save(page, "PNG")
    except ImageError as error:
        raise OSError(str(error)) from error
    return page.getvalue()
