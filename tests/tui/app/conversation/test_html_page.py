"""The web page in an answer: found, saved, opened."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.tui.conversation.html_page import free_name, open_page, page_in, save_new

PAGE = "<!DOCTYPE html>\n<html><body>Joke</body></html>\n"


@pytest.mark.parametrize(
    "answer",
    [
        f"Here it is:\n\n```html\n{PAGE}```\nEnjoy.",
        f"~~~HTML title=x\n{PAGE}~~~",
        f"```\n{PAGE}```",
        f"1. The page:\n\n   ```html\n   {PAGE.replace(chr(10), chr(10) + '   ').rstrip()}\n   ```",
        f"```css\nbody {{}}\n```\n\n```html\n{PAGE}```\n\n```js\nalert(1)\n```",
        f"```html\n<p>first</p>\n```\n\n```html\n{PAGE}```",
    ],
)
def test_the_last_block_of_html_is_the_page(answer: str) -> None:
    assert page_in([answer]) == PAGE


def test_a_page_that_stands_in_no_block_or_is_cut_off_is_found() -> None:
    assert page_in([f"Sure! {PAGE.strip()} Enjoy."]) == PAGE.strip()
    assert page_in(["```html\n<html><body>Jo"]) == "<html><body>Jo"
    assert page_in(["It is <html><body>Jo"]) == "<html><body>Jo"


def test_other_text_and_code_is_none() -> None:
    answers = ["A <b>bold</b> cat.", "```python\nprint('<html>')\n```".replace("<html>", "html"), ""]
    assert page_in(answers) == ""


def test_the_newest_answer_with_a_page_counts() -> None:
    assert page_in(["A cat.", "```html\n<p>new</p>\n```", "```html\n<p>old</p>\n```"]) == "<p>new</p>\n"


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    path = free_name(tmp_path)
    assert path == tmp_path / "page.html"
    save_new("one", path)
    assert free_name(tmp_path) == tmp_path / "page-2.html"
    with pytest.raises(UsageError, match=r"page\.html' is there already; give another name"):
        save_new("two", path)
    assert path.read_text() == "one"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        save_new("two", tmp_path / "file" / "page.html")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "page.html"]


class Browser(webbrowser.BaseBrowser):
    """A browser that notes what it shows."""

    def __init__(self, can_open: bool = True) -> None:
        super().__init__("fake")
        self.shown: list[str] = []
        self._can_open = can_open

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        self.shown.append(url)
        return self._can_open


def test_the_page_is_opened_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser()
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    open_page(tmp_path / "my page.html")
    assert browser.shown == [f"file://{tmp_path}/my%20page.html"]


@pytest.mark.parametrize("browser", [None, webbrowser.GenericBrowser("lynx"), Browser(can_open=False)])
def test_without_a_browser_with_a_window_a_sentence_names_the_file(
    browser: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get() -> object:
        if browser is None:
            raise webbrowser.Error
        return browser

    monkeypatch.setattr(webbrowser, "get", get)
    with pytest.raises(Minigpt4Error, match=r"no browser with a window here; open 'page\.html' yourself"):
        open_page(Path("page.html"))
