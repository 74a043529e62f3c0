"""Finds, saves and opens the web page in an answer, such as one made from a hand-drawn draft."""

from __future__ import annotations

import re
import webbrowser
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.tui.conversation.code_blocks import code_blocks

START = re.compile(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
"""The beginning of a block of code that holds a page, whatever its language is called."""

INSIDE = re.compile(r"<(?:!doctype\s+html|html)\b.*", re.IGNORECASE | re.DOTALL)

NO_PAGE = "No answer here holds a web page; /website asks for one."


def page_in(answers: Iterable[str]) -> str:
    """The last page in the answers, the newest answer first; "" if none holds one."""
    return next((page for answer in answers if (page := _page(answer))), "")


def free_name(folder: Path) -> Path:
    """`page.html` in the folder, or `page-2.html` and so on if that exists."""
    names = (folder / (f"page-{number}.html" if number > 1 else "page.html") for number in count(1))
    return next(path for path in names if not path.exists())


def save_new(text: str, path: Path) -> None:
    """Write the text, such as a page; raises UsageError if the file is there already or cannot be written."""
    if path.exists():
        raise UsageError(f"'{path}' is there already; give another name.")
    try:
        with replacing(path) as draft:
            draft.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"'{path}' cannot be written: {error.strerror or error}.") from error


def open_page(path: Path) -> None:
    """Show the page in the browser; raises Minigpt4Error if there is none with a window."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        browser = None
    # A plain GenericBrowser is a text browser, and would draw on the terminal that the chat uses.
    is_usable = browser is not None and type(browser) is not webbrowser.GenericBrowser
    if browser is None or not is_usable or not browser.open(path.absolute().as_uri()):
        raise Minigpt4Error(f"There is no browser with a window here; open '{path}' yourself.")


def _page(answer: str) -> str:
    blocks = [
        block.code
        for block in code_blocks(answer)
        if block.language.startswith(("html", "xhtml")) or START.match(block.code)
    ]
    if blocks:
        return blocks[-1]
    bare = INSIDE.search(answer)
    if bare is None:
        return ""
    end = bare[0].lower().rfind("</html>")
    return bare[0][: end + len("</html>")] if end >= 0 else bare[0]
