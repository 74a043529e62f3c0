"""`minigpt4 models import --llava` and `models export --mmproj`, as a person calls them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.llava.conftest import save_llava

from minigpt4.core.llava.mmproj import read_mmproj
from minigpt4.core.storage.paths import config_home

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    save_llava(tmp_path / "llava", class_row=True)
    return tmp_path / "llava"


def test_a_llava_is_imported_shown_verified_and_written_as_an_mmproj(
    call_minigpt4: Call, llava: Path, tmp_path: Path
) -> None:
    done = call_minigpt4("models", "import", "mine", "--llava", llava)
    assert (done.returncode, done.stdout) == (0, f"{config_home() / 'bundles' / 'mine.toml'}\n")
    assert "32 -> 48, 16 image tokens, two layers" in call_minigpt4("models", "show", "mine").stdout
    assert call_minigpt4("models", "verify", "mine").returncode == 0
    target = tmp_path / "mmproj.gguf"
    done = call_minigpt4("models", "export", "mine", "--mmproj", "-o", target)
    assert (done.returncode, done.stdout) == (0, f"{target}\n")
    assert (read_mmproj(target).outputs, read_mmproj(target).geometry.depth) == (48, 2)
    again = call_minigpt4("models", "export", "mine", "--mmproj", "-o", target)
    assert again.returncode == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("import", "x", "--llava", "DIR", "--llm", "DIR"), "--llava is a whole model, and --llm a part"),
        (
            ("import", "x", "--vit", "FILE"),
            "--projection and --llm and --template must be given, too; or",
        ),
        (("export", "--mmproj", "-o", "x.gguf"), "Give the name of the bundle whose tower"),
        (("export", "-o", "x.pth"), "Give either a bundle's name or --projection"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    call_minigpt4: Call, arguments: tuple[str, ...], sentence: str
) -> None:
    done = call_minigpt4("models", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
