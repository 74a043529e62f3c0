"""The page of a report in a real browser: filter, sort, keyboard, colors, and answers that are hostile."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minigpt4.train.evaluate.report.page import as_page
from minigpt4.train.evaluate.report.pictures import find_pictures
from minigpt4.train.evaluate.report.report import Report
from minigpt4.train.evaluate.report.reported_run import open_runs
from minigpt4.train.evaluate.suite import Verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

HOSTILE = (
    "<script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'></blockquote>"
    '"\' onmouseover="window.hurt = 1" <style>*{display:none}</style> \x1b[31m \u202e &amp; ${style}'
)
HOSTILE_NAME = "z' \" <b onclick=hurt()>.png"
ANSWERS = {
    "a10.png": "A cat.",
    "a9.png": "A dog runs in the grass and barks at everybody.",
    HOSTILE_NAME: HOSTILE,
    "b.png": "A cat sleeps on a sofa.",
    "c.png": "",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; install it with 'apt-get install chromium'")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def file(tmp_path: Path, a_run: Callable[..., Path], photos_in: Callable[..., Path]) -> Path:
    """The page of two runs, one with verdicts; the pictures but the last are there."""
    photos = photos_in(tmp_path / "photos", list(ANSWERS)[:4])
    verdicts = [
        Verdict("a10.png", "one judge", "right", 1, "yes"),
        Verdict("a10.png", "another judge", "right", 0, "no"),
        Verdict("a9.png", "one judge", "right", None, HOSTILE),
        Verdict("b.png", "one judge", "right", 1, "yes", is_negative=True),
    ]
    runs = open_runs(
        [
            a_run(tmp_path / "first", ANSWERS, data=[str(photos)], verdicts=verdicts),
            a_run(tmp_path / "second", {**ANSWERS, "a9.png": "A cat."}, data=[str(photos)]),
        ]
    )
    path = tmp_path / "report.html"
    path.write_text(as_page(Report(runs), find_pictures(runs, [])), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """The page opened; at the end nothing was fetched, complained about or executed."""
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert said == []
    assert page.evaluate("window.hurt") is None
    page.close()


def shown(page: Any) -> list[str]:
    """The names of the pictures that are shown, in their order."""
    return list(page.locator("article:visible h3").all_text_contents())


def wait_for_pictures(page: Any, number: int) -> None:
    """Wait until so many are shown: what is typed is looked for after a moment."""
    from playwright.sync_api import expect

    expect(page.locator("article:not([hidden])")).to_have_count(number)


def test_every_picture_has_its_answers_and_hostile_ones_are_inert(page: Any) -> None:
    assert shown(page) == sorted(ANSWERS)
    assert page.locator("article img").count() == 4
    widths = page.locator("article img").evaluate_all(
        "all => Promise.all(all.map(async one => { one.loading = 'eager'; await one.decode();"
        " return one.naturalWidth; }))"
    )
    assert widths == [320] * 4
    hostile = page.locator("article", has=page.locator("h3", has_text="onclick"))
    said = hostile.locator("blockquote").first.text_content()
    assert said == HOSTILE.replace("\x1b", "?").replace("\u202e", "?")
    hostile.hover()
    assert page.locator("article b, article script, article style").count() == 0
    assert "c.png was not found" in page.locator("article", has_text="c.png").text_content()
    assert "The picture cannot be read." in page.locator("article", has_text="c.png").text_content()
    assert page.locator("h3", has_text="a9").count() == 1


def test_answers_are_filtered_by_text_and_by_what_is_said_of_them(page: Any) -> None:
    page.get_by_label("Text").fill("BARKS")
    wait_for_pictures(page, 1)
    assert shown(page) == ["a9.png"]
    assert page.get_by_role("status").inner_text() == "1 of 5 questions, about 1 of 5 pictures"
    page.get_by_role("button", name="Show all").click()
    wait_for_pictures(page, 5)
    for kind, names in {
        "a wrong answer": ["a9.png", HOSTILE_NAME],
        "no answer": ["c.png"],
        "runs that disagree": ["a9.png"],
        "judges who disagree": ["a10.png"],
        "a verdict that is unclear": ["a9.png"],
    }.items():
        page.get_by_label("With").select_option(label=kind)
        assert shown(page) == names, kind


def test_pictures_are_sorted(page: Any) -> None:
    for order, names in {
        "name of the picture": ["a9.png", "a10.png", "b.png", "c.png", HOSTILE_NAME],
        "most wrong answers first": [HOSTILE_NAME, "a9.png", "a10.png", "b.png", "c.png"],
        "longest answer first": [HOSTILE_NAME, "a9.png", "b.png", "a10.png", "c.png"],
        "as in the run": sorted(ANSWERS),
    }.items():
        page.get_by_label("Order").select_option(label=order)
        assert shown(page) == names, order


def test_everything_can_be_done_by_keyboard_with_the_focus_in_sight(page: Any) -> None:
    visited = []
    for _ in range(8):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            "(({id, className, tagName}) => [id || className || tagName,"
            " getComputedStyle(document.activeElement).outlineStyle])(document.activeElement)"
        )
        visited.append(focus[0])
        assert focus[1] == "solid", focus
    assert visited == ["skip", "colors", "scroll", "SUMMARY", "text", "kind", "order", "BUTTON"]
    page.locator("#text").focus()
    page.keyboard.type("sleeps")
    wait_for_pictures(page, 1)
    page.locator("#order").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#order").input_value() == "name"
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "answers"


def test_the_page_has_landmarks_names_and_texts_for_pictures(page: Any) -> None:
    for role in ("banner", "main", "search", "status"):
        assert page.get_by_role(role).count() == 1, role
    assert page.get_by_role("heading", level=1).inner_text() == "Evaluation: subjects"
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert all(page.locator("select, input").evaluate_all("all => all.map(one => one.labels.length === 1)"))
    assert page.locator("html").get_attribute("lang") == "en"
    ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))


def brightness(color: str) -> float:
    """The relative luminance of a CSS color (WCAG 2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_color_schemes_follow_the_system_and_the_switch_and_are_readable(page: Any, scheme: str) -> None:
    def back() -> float:
        return brightness(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    other = "dark" if scheme == "light" else "light"
    page.emulate_media(color_scheme=scheme)
    assert (back() > 0.5) == (scheme == "light")
    page.get_by_label("Colors").select_option(label=other)
    assert (back() > 0.5) == (other == "light")
    page.get_by_label("Colors").select_option(label="as the system")
    raised = brightness(
        page.locator("article").first.evaluate("one => getComputedStyle(one).backgroundColor")
    )
    for part in ("blockquote", ".quiet", ".truth", ".marks li", ".marks .bad", "summary", "#count"):
        ink = brightness(page.locator(part).first.evaluate("one => getComputedStyle(one).color"))
        for ground in (back(), raised):
            bright, dim = max(ink, ground), min(ink, ground)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (part, scheme)


@pytest.mark.parametrize("width", [320, 1400])
def test_a_narrow_window_scrolls_one_way_only(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_several_questions_know_of_a_picture_is_shown_once_and_found(
    browser: Any, tmp_path: Path, a_run: Callable[..., Path], photos_in: Callable[..., Path]
) -> None:
    photos = photos_in(tmp_path / "photos", ["a.png"])
    truth = {"captions": ["A cat on a sofa."], "objects": ["cat", "sofa"], "question": ""}
    runs = open_runs(
        [
            a_run(tmp_path / suite, {"a.png": answer}, suite=suite, data=[str(photos)], truth=truth)
            for suite, answer in (("subjects", "A cat."), ("fluency", "A cat sleeps on a soft sofa today."))
        ]
    )
    path = tmp_path / "report.html"
    path.write_text(as_page(Report(runs), find_pictures(runs, [])), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    (article,) = page.locator("article").all()
    assert article.locator(".question").count() == 2
    assert article.inner_text().count("A cat on a sofa.") == 1
    assert "objects: cat, sofa" in article.inner_text()
    page.get_by_label("Text").fill("cat on a sofa")
    wait_for_pictures(page, 1)
    page.close()


def test_flaws_that_an_answer_does_not_have_are_counted_not_listed(
    tmp_path: Path, a_run: Callable[..., Path]
) -> None:
    answers = {"a.png": "A cat sleeps on a soft sofa today.", "b.png": "A cat. A cat. A cat. A cat."}
    runs = open_runs([a_run(tmp_path / "run", answers, suite="fluency", truth={"question": ""})])
    page = as_page(Report(runs), find_pictures(runs, []))
    sound, failed = page.split("<article")[1:]
    assert '<li class="fine">none of 7 flaws</li>' in sound
    assert "repeats itself: no" not in sound
    assert "\N{BALLOT X} repeats itself: yes" in failed
    assert "none of" not in failed and "is not English" not in failed
