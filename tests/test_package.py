"""The built wheel holds everything and works from any folder, even one that sets traps."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from minigpt4.core.storage.paths import HOME_VARIABLE

ROOT = Path(__file__).parent.parent
FOLDERS = {"core": "core", "train": "train", "themes": "themes", "minigpt4_tui": "tui"}
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", "*.egg-info", "build", "dist", "runs", ".*_cache", ".hypothesis", "tests"
)
TRAP = "raise SystemExit('a file of the working folder was imported')\n"
TRAPS = ("train.py", "core/__init__.py", "themes.py", "tui.py", "minigpt4_tui.py", "tests/__init__.py")

SHIPPED_PARTS = """
import dataclasses, sys
from minigpt4.core.bundles.bundle import bundle_names, load_bundle
from minigpt4.core.projection import load_projection
from minigpt4.themes import load_theme, theme_names

assert "mini" in bundle_names()
for name in bundle_names():
    bundle = load_bundle(name)
    if bundle.mmproj is not None:
        continue
    spec = bundle.projection
    if spec.path is not None and spec.path.exists():
        load_projection(spec.path, spec.inputs, spec.outputs)
        print("projection of", name)
for name in theme_names():
    print("theme", load_theme(name).name)
"""


@dataclass(frozen=True)
class Installed:
    """A virtual environment that holds the wheel and sees the libraries of the test's own."""

    bin: Path

    def run(
        self, program: str, *arguments: str, cwd: Path, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            [self.bin / program, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=kept | {"NO_COLOR": "1"},
            timeout=300,
            check=False,
        )


def run_quietly(command: Sequence[str | Path], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build(folder: Path, what: str, source: Path) -> Path:
    """Build `what` ("sdist" or "wheel") of `source` into `folder` with the setuptools at hand."""
    hook = f"from setuptools import build_meta; build_meta.build_{what}({str(folder)!r})"
    run_quietly([sys.executable, "-c", hook], cwd=source)
    (built,) = folder.glob("*.tar.gz" if what == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, links kept, so that building leaves nothing behind in ours."""
    copy = tmp_path_factory.mktemp("tree") / "minigpt4"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), "wheel", tree)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run_quietly(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel],
        cwd=folder,
    )
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # A folder on the path, not a site: the test environment's own editable install stays unseen.
    (site_packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(folder / "bin")


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A working folder with files of the user's own that bear our folders' names."""
    for name in TRAPS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(TRAP)
    return tmp_path


def expected_members() -> set[str]:
    """Every module and data file of the four folders, under the name that a wheel gives it."""
    kinds = ("*.py", "*.toml", "*.tsv", "*.safetensors")
    return {"minigpt4/__init__.py", "minigpt4/py.typed"} | {
        f"minigpt4/{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for kind in kinds
        for path in (ROOT / folder).rglob(kind)
    }


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    assert expected_members() - members(wheel) == set()


def test_the_wheel_holds_the_parts_that_mini_needs(wheel: Path) -> None:
    names = members(wheel)
    wanted = ("core/bundles/mini.toml", "themes/paper.toml", "train/captions/classes.tsv", "py.typed")
    assert {f"minigpt4/{name}" for name in wanted} <= names
    for pattern in (r"core/bundles/.*\.safetensors", r"train/recipes/.*\.toml"):
        assert any(re.fullmatch(f"minigpt4/{pattern}", name) for name in names), pattern


def test_the_wheel_installs_no_name_but_minigpt4(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in members(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"minigpt4"}


def test_a_wheel_built_from_the_source_archive_is_the_same(tree: Path, wheel: Path, tmp_path: Path) -> None:
    archive = build(tmp_path, "sdist", tree)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = build(tmp_path, "wheel", source)
    assert members(again) == members(wheel)


def test_the_version_is_printed(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("minigpt4", "--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"minigpt4 \d+\.\d+\.\d+\n", done.stdout)


def test_help_is_printed_without_loading_a_model_library(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("python", "-X", "importtime", "-m", "minigpt4.tui", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Usage: minigpt4" in done.stdout
    loaded = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert loaded & {"torch", "transformers", "llama_cpp", "numpy", "PIL"} == set()


def test_projections_and_themes_load_from_any_folder(installed: Installed, trapped: Path) -> None:
    done = installed.run("python", "-P", "-c", SHIPPED_PARTS, cwd=trapped)
    assert done.returncode == 0, done.stderr
    assert {"projection of mini", "theme harbour", "theme paper"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("models", "list"),
        ("models", "show", "mini"),
        ("ask", "--help"),
        ("chat", "--help"),
        ("train", "--help"),
        ("eval", "captions", "--help"),
    ],
    ids=" ".join,
)
def test_files_of_the_users_own_break_no_command(
    installed: Installed, trapped: Path, arguments: tuple[str, ...]
) -> None:
    done = installed.run("minigpt4", *arguments, cwd=trapped)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_files_of_the_users_own_break_no_answer(
    installed: Installed, trapped: Path, examples: Path, mini_home: Path
) -> None:
    assert os.environ[HOME_VARIABLE] == str(mini_home)
    photo = str(examples / "chelsea.png")
    done = installed.run("minigpt4", "ask", "-i", photo, "What is in this picture?", cwd=trapped)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_nothing_is_written_into_the_working_folder(installed: Installed, trapped: Path) -> None:
    before = sorted(trapped.rglob("*"))
    installed.run("minigpt4", "models", "list", cwd=trapped)
    assert sorted(trapped.rglob("*")) == before
