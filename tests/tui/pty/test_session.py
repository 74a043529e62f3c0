"""A visit to the app with the real model: a photo, a question, and what can be done with an answer."""

from __future__ import annotations

from typing import Any

from minigpt4.tui.history.store import Store, StoredMessage

Start = Any

STORY = "Write an essay about the history of the sea."
"""What mini has no end of, in words that are always the same with --greedy."""


def test_a_person_shows_a_photo_asks_stops_continues_and_leaves(start: Start, kept: Store) -> None:
    def said(place: int) -> StoredMessage:
        newest, *_ = kept.conversations(10)
        return kept.path(newest.id)[place]

    terminal = start("coffee.jpg", "--images", "halfblock", "--greedy", "--max-tokens", "200")
    terminal.until("▣ coffee.jpg  600 × 400")
    terminal.until("● mini")
    (engine,) = terminal.engines()

    terminal.ask("What is in this picture?")
    terminal.until("mini\n▌  ")
    terminal.until(lambda: said(1).state == "done")
    terminal.until("● mini")
    terminal.until("tokens/s")
    assert terminal.text.count("▀" * 24) >= 6  # it is drawn in the conversation
    assert "coffee.jpg\n▌  600 × 400" in terminal.text
    assert said(1).text
    terminal.until(said(1).text[:30])  # painted up to a frame after the status line

    terminal.press("ctrl+n")  # about the picture, mini would have less to say
    terminal.until(lambda: "600 × 400" not in terminal.text)
    terminal.ask(STORY)
    terminal.until("▌  The sea has been")
    terminal.press("escape")
    terminal.until("Stopped")
    stopped = said(1)
    assert stopped.state == "stopped"
    assert stopped.text[:20] in terminal.text
    assert " " in stopped.text

    terminal.press("ctrl+g")  # the same answer goes on
    terminal.until(lambda: said(1).state == "done")
    assert said(1).id == stopped.id
    assert said(1).text.startswith(stopped.text)
    assert len(said(1).text) > len(stopped.text)

    terminal.press("ctrl+r")  # another one takes its place, and the first stays
    terminal.until("‹ 2 of 2 ›")
    terminal.press("escape")
    terminal.until("● mini")
    assert [one.id for one in kept.variants(said(1).id)] == [stopped.id, said(1).id]

    terminal.press("ctrl+q")
    assert terminal.ended() == 0
    assert terminal.left_set == set()
    terminal.until_gone(engine)


def test_pictures_come_by_command_and_by_drop_on_a_terminal_that_answers_nothing(start: Start) -> None:
    terminal = start(answers=False)
    terminal.until("Ask about a picture")
    terminal.send("/image cof")
    terminal.until("/image cof")
    terminal.press("tab")
    terminal.until("/image coffee.jpg")
    terminal.press("enter")
    terminal.until("▣ coffee.jpg  600 × 400")
    terminal.drop(f"'{terminal.folder}/my cat.png'")
    terminal.until("▣ my cat.png  451 × 300")
    terminal.until("Ask about a picture")  # nothing of either stays in the line


def test_bytes_that_are_no_text_do_no_harm(start: Start) -> None:
    terminal = start()
    terminal.until("Ask about a picture")
    terminal.send_bytes(b"\x1b[200~/old disk/caf\xe9.jpg\x1b[201~ \xff\xfe")
    terminal.until("/old disk/caf\N{REPLACEMENT CHARACTER}.jpg")
    terminal.send(" and then")
    terminal.until("and then")


def test_the_window_may_have_any_size(start: Start) -> None:
    terminal = start("coffee.jpg")
    terminal.until("▣ coffee.jpg  600 × 400")
    terminal.resize(20, 5)
    terminal.until(lambda: terminal.text.splitlines()[-1].strip() == "● mini")
    for columns, rows in ((0, 24), (1, 1), (0, 0), (3, 40)):
        terminal.resize(columns, rows)
        terminal.look(0.1)
    terminal.resize(120, 30)
    terminal.until("Conversations")  # there is room for the list now
    terminal.resize(80, 24)
    terminal.until(
        lambda: "Conversations" not in terminal.text and "▣ coffee.jpg  600 × 400" in terminal.text
    )
    terminal.send("Is it hot?")
    terminal.until("Is it hot?")


def test_no_columns_at_the_start_do_no_harm(start: Start) -> None:
    terminal = start(size=(0, 0))
    terminal.until(lambda: b"Ask about a picture" in terminal.received)
    terminal.resize(80, 24)
    terminal.until("Ask about a picture")


def test_no_color_means_greys_alone_in_every_theme(start: Start) -> None:
    for theme in ("harbour", "terminal"):
        terminal = start("coffee.jpg", "--theme", theme, env={"NO_COLOR": "1"})
        terminal.until("● mini")
        terminal.until("▣ coffee.jpg")
        terminal.press("f1")
        terminal.until("Send the question")
        assert {colour for pair in terminal.colours() for colour in pair if not is_grey(colour)} == set()
        assert all(ink != paper for ink, paper in terminal.colours())
        terminal.close()


def test_an_empty_no_color_means_nothing(start: Start) -> None:
    terminal = start(env={"NO_COLOR": ""})
    terminal.until("Ask about a picture")
    assert any(not is_grey(colour) for pair in terminal.colours() for colour in pair)


def is_grey(colour: str) -> bool:
    return colour == "default" or len({colour[0:2], colour[2:4], colour[4:6]}) == 1
