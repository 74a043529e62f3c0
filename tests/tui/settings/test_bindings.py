"""Bindings come from the table of actions, each with a method that does it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from textual.binding import Binding

from minigpt4.tui.app.app import MiniGPT4App
from minigpt4.tui.screens.chat import ChatScreen
from minigpt4.tui.settings.bindings import bindings_of, key_label
from minigpt4.tui.widgets.composer import Composer
from minigpt4.tui.widgets.message import MessageView

OWNERS = {"app": MiniGPT4App, "chat": ChatScreen, "composer": Composer, "message": MessageView}


@pytest.mark.parametrize("scope", OWNERS)
def test_every_action_of_the_chat_is_done_by_somebody(scope: str) -> None:
    bound = {one.id: one.action for one in OWNERS[scope].BINDINGS if isinstance(one, Binding)}
    missing = [
        one.id
        for one in bindings_of(scope)
        if not hasattr(OWNERS[scope], f"action_{bound.get(one.id, one.action).partition('(')[0]}")
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("key", "label"),
    [("ctrl+o", "Ctrl+O"), ("f1", "F1"), ("escape", "Esc"), ("shift+enter", "Shift+Enter"), ("e", "e")],
)
def test_keys_are_written_as_people_write_them(key: str, label: str) -> None:
    assert key_label(key) == label


def test_the_app_is_painted_without_a_model_library() -> None:
    script = "import sys, minigpt4.tui.app.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert (
        set(done.stdout.split()) & {"torch", "transformers", "llama_cpp", "numpy", "textual_image"} == set()
    )
