"""How the screens look: each at 80x24 and at 120x40, in a dark theme and in a light one.

A screen that was meant to change is drawn anew with `pytest tests/tui/app/test_snapshots.py
--snapshot-update`; look at the files under __snapshots__ in a browser before keeping them.
"""

from __future__ import annotations

import calendar
import datetime
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageDraw
from textual.widgets import TextArea

from minigpt4.core.download.fetch import FetchPlan, FetchProgress
from minigpt4.core.pixels import open_picture
from minigpt4.core.worker.messages import Exited
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.models.background_download import RUNNING, Download
from minigpt4.tui.screens.models import DownloadScreen
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.widgets.option_rows import OptionRows

Play = Any
Now = Any
Look = Callable[..., Awaitable[None]]

TODAY = datetime.datetime(2026, 5, 20, 15, 30, tzinfo=datetime.UTC)

ANSWER = """A **lighthouse** stands at the left, and a small sun hangs over a calm sea.

## What is in it

1. the tower, white, with a red band
2. the sea, in three blues
3. the sun, `#f2c94c`

```python
def beam(seconds: float) -> bool:
    return seconds % 10 < 2
```

> Read from the colours alone.
"""

SAID = (
    (0, "Which bird is this?", "A **robin**: the red breast tells."),
    (0, "How many boats are in the harbour?", "Three boats."),
    (1, "Is the bread done?", "The crust is a light brown, so give it some more minutes."),
    (3, "Read the sign in the picture", "It says `No swimming`."),
    (4, "A very long question about a picture of a market in the early morning", "A market."),
    (30, "Was this taken in summer?", "The trees have leaves, so it may well be summer."),
    (51, "Photos of the harbour, compared", "Both show the same harbour."),
)
"""Days ago, question, answer: what was talked about before."""


@pytest.fixture(autouse=True)
def _the_same_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One day, one home, one kind of terminal, and waiting that takes no time."""
    for name in ("NO_COLOR", "TEXTUAL_COLOR_SYSTEM", "TEXTUAL_ANIMATIONS", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(PickerScreen, "start", None)

    class Day(datetime.date):
        @classmethod
        def today(cls) -> Day:
            return cls(TODAY.year, TODAY.month, TODAY.day)

    monkeypatch.setattr("minigpt4.tui.sidebar.conversation_list.datetime", SimpleNamespace(date=Day))
    monkeypatch.setattr("minigpt4.tui.screens.models.free_memory", lambda: 8 << 30)
    monkeypatch.setattr("minigpt4.tui.widgets.status.time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have the store write the time so many days ago."""

    def turn(days_ago: float) -> None:
        moment = calendar.timegm(TODAY.utctimetuple()) - days_ago * 86_400
        monkeypatch.setattr("minigpt4.tui.history.store.time", SimpleNamespace(time=lambda: moment))

    return turn


@pytest.fixture
def past(store: Store, at: Callable[[float], None]) -> Store:
    """A store with what was talked about before, the last of it pinned."""
    for place, (days, question, answer) in enumerate(reversed(SAID)):
        at(days + (len(SAID) - place) / 100)
        talk = store.new_conversation()
        asked = store.add_message(talk.id, None, "user", question)
        store.add_message(talk.id, asked.id, "assistant", answer, state="done")
        if place == 0:
            store.pin(talk.id, True)
    at(0)
    return store


@pytest.fixture
def lighthouse(past: Store) -> StoredPicture:
    return past.keep_picture(open_picture(_lighthouse((640, 480))), "lighthouse.png")


def _lighthouse(size: tuple[int, int]) -> bytes:
    """A few flat colours, so that its half-blocks are few."""
    image = Image.new("RGB", (64, 48), "#8fc1de")
    pen = ImageDraw.Draw(image)
    pen.rectangle((44, 8, 51, 15), "#f2c94c")
    for top, blue in ((30, "#3d7ea6"), (36, "#2c6488"), (42, "#1f4d6b")):
        pen.rectangle((0, top, 63, 47), blue)
    pen.rectangle((0, 40, 23, 47), "#5b5348")
    pen.rectangle((8, 12, 15, 39), "#f4efe6")
    pen.rectangle((8, 20, 15, 27), "#b8402f")
    pen.rectangle((8, 8, 15, 11), "#2f3437")
    out = BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


def opened(play: Play, **named: Any) -> Any:
    """The app as people have it, the list beside the conversation where there is room."""
    return play({"sidebar": "auto", "images": "halfblock"}, **named)


async def converse(now: Now, picture: StoredPicture) -> None:
    """A question about a picture, its answer, and another question that was answered."""
    now.app.attach([picture])
    await now.talk("What do you see? Answer at length.", ANSWER)


async def over(now: Now, action: str, kind: str) -> None:
    """Open a screen that lies over the conversation."""
    await now.app.run_action(
        action, default_namespace=now.app if hasattr(now.app, f"action_{action}") else now.app.chat
    )
    await now.until(lambda: type(now.app.screen).__name__ == kind)


async def test_an_empty_conversation(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await look(now, "welcome")


async def test_an_answer_with_everything_that_markdown_has(play: Play, lighthouse: Any, look: Look) -> None:
    async with opened(play) as now:
        await converse(now, lighthouse)
        await look(now, "conversation")
        await now.app.chat.transcript.to_end()
        await now.pilot.press("alt+up")
        await look(now, "conversation-focus")
        await now.pilot.press("up")
        await now.until(lambda: "Enter zoom" in now.text())
        await look(now, "question-focus")


async def test_an_answer_that_is_being_written(play: Play, lighthouse: Any, look: Look) -> None:
    async with opened(play) as now:
        now.app.attach([lighthouse])
        await now.ask("What do you see?")
        now.engine.begin("A **lighthouse** stands at the left, ", "and a small sun hangs")
        view = now.app.chat.transcript.views[-1]
        await now.until(lambda: "hangs" in now.text() and view._painter is None)
        await look(now, "writing")


async def test_an_answer_that_was_stopped_and_one_made_again(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await now.talk("Which bird is this?", "A robin.")
        await now.pilot.press("ctrl+r")
        now.engine.begin("It may be a ")
        await now.until(lambda: "may be" in now.text())
        await now.pilot.press("escape")
        now.engine.answer("It may be a ", finish="stopped")
        await now.until(lambda: now.app.conversation.answering is None)
        await look(now, "variants")


async def test_a_question_that_is_being_written(play: Play, lighthouse: Any, look: Look) -> None:
    async with opened(play) as now:
        second = now.store.keep_picture(
            open_picture(_lighthouse((1280, 720))), "the same lighthouse, in the evening.png"
        )
        now.app.attach([lighthouse, second])
        now.app.chat.composer.replace_text("Compare these two:\n- the light\n- the sea")
        await look(now, "composer")


async def test_the_commands_after_a_slash(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await now.pilot.press("/")
        await look(now, "commands")


async def test_questions_that_wait_for_the_answer(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await now.ask("Which bird is this?")
        now.engine.begin("It may be a robin")
        await now.pilot.press(*"Where does it live?", "enter", *"What does it eat?", "enter")
        view = now.app.chat.transcript.views[-1]
        await now.until(
            lambda: "robin" in now.text() and "then: What" in now.text() and view._painter is None
        )
        await look(now, "queue")


async def test_a_model_that_died(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await now.talk("Which bird is this?", "A robin.")
        now.engine.on_event(
            Exited(
                "The model's process was ended by the system, most likely for want of memory.",
                "Close other programs, or choose a smaller form of the model.",
                "ggml_backend_alloc: failed to allocate 4096 MB\nKilled",
            )
        )
        await now.until(lambda: now.app.engine.state == "dead")
        await look(now, "trouble")


async def test_the_list_of_conversations(play: Play, past: Store, look: Look) -> None:
    async with opened(play, conversation=past.conversations(3)[2].id) as now:
        await now.pilot.press("ctrl+b")
        await now.pilot.press("down", "down")
        await look(now, "sidebar")


async def test_the_list_of_conversations_about_pictures(
    play: Play, lighthouse: StoredPicture, past: Store, at: Callable[[float], None], look: Look
) -> None:
    several = (
        ("What is this?", ("harbour.jpg",)),
        ("What is this?", ("market.jpg", "bread.png")),
        (
            "Which of these photos is the sharpest?",
            tuple(f"holiday {day} in Brittany.jpg" for day in range(6)),
        ),
    )
    for days_ago, (question, names) in enumerate(several):
        at(days_ago)
        pictures = [replace(lighthouse, name=name) for name in names]
        past.add_message(past.new_conversation().id, None, "user", question, pictures)
    async with opened(play) as now:
        await now.pilot.press("ctrl+l")
        await look(now, "sidebar-pictures")


async def test_finding_a_conversation_in_the_list(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await now.pilot.press("ctrl+l", *"the")
        await now.until(lambda: "found" in now.text())
        await look(now, "sidebar-filter")
        await now.pilot.press(*"xyz")
        await now.until(lambda: "none" in now.text())
        await look(now, "sidebar-none")


async def test_renaming_a_conversation_in_the_list(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await now.pilot.press("ctrl+l", "down", "f12", "end", *", and its harbour")
        await look(now, "sidebar-rename")


async def test_searching(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await over(now, "search", "SearchScreen")
        await now.pilot.press(*"harb")
        await now.until(lambda: now.app.screen.rows.option_count > 1)
        await look(now, "search")


async def test_choosing_pictures(play: Play, past: Store, look: Look, tmp_path: Path) -> None:
    photos = tmp_path / "home" / "photos"
    for name in ("boats.png", "lighthouse.png", "sea [draft].png", "2025/gull.png", "2026/market.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(_lighthouse((640, 480)))
    PickerScreen.start = photos
    async with opened(play) as now:
        await over(now, "pick_picture", "PickerScreen")
        await now.until(lambda: "lighthouse.png" in now.text())
        await now.pilot.press("space", "down", "space")
        await now.until(lambda: "640" in now.text() or now.app.size.width < 100)
        await look(now, "picker")


async def test_a_picture_on_the_whole_screen(play: Play, lighthouse: Any, look: Look) -> None:
    async with opened(play) as now:
        now.app.attach([lighthouse])
        await now.pilot.press("alt+up")
        now.app.chat._zoom([lighthouse, lighthouse], lighthouse)
        await look(now, "zoom")


async def test_the_models(play: Play, past: Store, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    # The memory that is needed must not be this processor's.
    monkeypatch.setattr("minigpt4.core.dtypes.has_bf16", lambda: False)
    async with opened(play) as now:
        await over(now, "models", "ModelsScreen")
        await now.until(lambda: now.app.screen.infos)
        await look(now, "models")
        await now.pilot.press("enter")
        await look(now, "bundle")


async def test_a_large_download(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        plan = FetchPlan("mini", 5, 15_670_000_000, 412_000_000_000, Path("/data/me/minigpt4/bundles/mini"))
        now.app.push_screen(DownloadScreen(plan))
        await look(now, "download-question")
        await now.pilot.press("escape")
        download = RUNNING["mini"] = Download("mini")
        for at, (file, done, size, in_all) in enumerate(
            (("eva_vit_g.pth", 2_020, 2_020, 2_020), ("pytorch_model.bin", 1_480, 9_980, 3_500))
        ):
            counts = (done, size, in_all, 15_670)
            download.take(FetchProgress(file, *(one * 1_000_000 for one in counts)), 7.0 * at)
        try:
            await over(now, "models", "ModelsScreen")
            await now.until(lambda: now.app.screen.infos)
            await now.pilot.press("enter")
            await look(now, "download")
        finally:
            RUNNING.clear()


async def test_the_settings(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await over(now, "settings", "SettingsScreen")
        await now.pilot.press("down", "down")
        await look(now, "settings")
        await now.pilot.press(*"system", "space", *"prompt", "enter")
        await now.until(lambda: type(now.app.screen).__name__ == "PromptScreen")
        await now.pilot.press(*"Answer in one sentence.", "enter", *"Name colours.")
        await now.until(lambda: now.app.screen.query_one(TextArea).text.endswith("Name colours."))
        await look(now, "prompt")


async def test_the_themes(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await over(now, "themes", "ThemesScreen")

        async def wear(theme: str) -> None:
            rows = now.app.screen.query_one(OptionRows)
            rows.highlighted = rows.get_option_index(theme)
            await now.until(lambda: now.app.theme == theme)

        await look(now, "themes", wear)


async def test_the_help(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await over(now, "help", "HelpScreen")
        await look(now, "help")


async def test_changing_a_key(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await over(now, "help", "HelpScreen")
        await now.pilot.press(*"search all", "enter")
        await now.until(lambda: type(now.app.screen).__name__ == "KeyScreen")
        await look(now, "key")
        await now.pilot.press("ctrl+n")
        await look(now, "key-clash")


async def test_the_command_palette(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await over(now, "palette", "PaletteScreen")
        await look(now, "palette")
        await now.pilot.press(*"conv")
        await look(now, "palette-typed")


async def test_the_command_palette_over_a_message(play: Play, past: Store, look: Look) -> None:
    async with opened(play) as now:
        await now.talk("Which bird is this?", "A robin.")
        now.app.chat.transcript.views[-1].focus()
        await over(now, "palette", "PaletteScreen")
        await look(now, "palette-message")


async def test_saving_a_conversation(play: Play, past: Store, look: Look) -> None:
    async with opened(play, conversation=past.conversations(1)[0].id) as now:
        await over(now, "export", "ExportScreen")
        now.app.screen.query_one("#query").value = "~/notes"
        await look(now, "export")
