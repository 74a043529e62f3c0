"""Which pictures paths name, and in which order."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from minigpt4.tui.captioning.pictures import find_pictures


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*paths: str) -> list[str]:
    return [path.as_posix() for path in find_pictures(map(Path, paths)).pictures]


def test_a_folder_is_searched_with_its_subfolders_by_name_without_hidden_files(here: Path) -> None:
    touch("p/b/z.jpg", "p/b/A.PNG", "p/b.jpg", "p/a.jpeg", "p/c/d/e.webp", "p/phone.HEIC")
    touch("p/notes.txt", "p/film.mp4", "p/.hidden.jpg", "p/.git/x.jpg", "p/._a.jpeg")
    assert found("p") == ["p/a.jpeg", "p/b.jpg", "p/phone.HEIC", "p/b/A.PNG", "p/b/z.jpg", "p/c/d/e.webp"]


def test_files_are_taken_as_given_in_the_order_given_and_once(here: Path) -> None:
    touch("p/b.jpg", "p/a.jpg", "scan", ".secret.png")
    assert found("p/b.jpg", "scan", "p", ".secret.png", "./p/../scan", "none.jpg") == [
        "p/b.jpg",
        "scan",
        "p/a.jpg",
        ".secret.png",
        "none.jpg",
    ]


def test_loops_of_links_end_and_linked_folders_are_followed_once(here: Path) -> None:
    touch("p/a/one.jpg", "p/z/two.jpg", "elsewhere/three.jpg")
    Path("p/a/up").symlink_to("..")
    Path("p/a/self").symlink_to("self")
    Path("p/a-link").symlink_to("z")
    Path("p/out").symlink_to(here / "elsewhere")
    Path("p/out-again").symlink_to(here / "elsewhere")
    assert found("p") == ["p/a/one.jpg", "p/out/three.jpg", "p/z/two.jpg"]


def test_pictures_that_two_names_of_a_folder_reach_are_found_once(here: Path) -> None:
    touch("p/a.jpg", "p/sub/b.jpg")
    Path("link").symlink_to("p")
    assert found("p", "link", "p/sub") == ["p/a.jpg", "p/sub/b.jpg"]


def test_pipes_are_named_and_not_waited_for_and_broken_links_are_left_to_fail(here: Path) -> None:
    touch("p/a.jpg")
    os.mkfifo("p/pipe.jpg")
    Path("p/broken.jpg").symlink_to("nowhere.jpg")
    result = find_pictures([Path("p"), Path("p/pipe.jpg")])
    assert result.pictures == (Path("p/a.jpg"), Path("p/broken.jpg"))
    assert set(result.faults) == {"'p/pipe.jpg' is a pipe or a device; save the picture in a file first."}


def test_empty_folders_are_told_but_not_those_that_were_searched_before(here: Path) -> None:
    touch("p/sub/a.jpg")
    Path("none").mkdir()
    result = find_pictures(map(Path, ("p", "none", "p/sub")))
    assert result.empty == (Path("none"),)
    assert result.faults == ()


def test_a_folder_that_may_not_be_read_is_named_and_the_rest_is_found() -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "import minigpt4.train.data.files\n"  # another user may not be able to
        "from minigpt4.tui.captioning.pictures import find_pictures\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "found = find_pictures([Path(sys.argv[1])])\nprint([p.name for p in found.pictures], *found.faults)"
    )
    # Not in pytest's own folder, which other users may not enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        (folder / "a.jpg").touch()
        (folder / "closed").chmod(0)
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, name],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        (folder / "closed").chmod(0o755)
    assert done.stdout.startswith(
        f"['a.jpg'] The folder '{folder / 'closed'}' cannot be read (Permission denied)"
    )
