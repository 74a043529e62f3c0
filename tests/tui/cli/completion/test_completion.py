"""Tab completion: what may come next, in a real bash, and how long a Tab takes."""

from __future__ import annotations

import runpy
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from minigpt4.core.storage.paths import config_home
from minigpt4.tui.cli.completion.scripts import SCRIPTS
from minigpt4.tui.cli.completion.words import TABLE, candidates
from minigpt4.tui.history.store import Store

DOCS = Path(__file__).parents[4] / "docs"
SCRIPTS_FOLDER = Path(sysconfig.get_path("scripts"))
FILES = ":files"
TAB_S = 0.15


def values(*words: str) -> list[str]:
    return [value for value, _ in candidates(words)]


def test_the_table_is_current() -> None:
    made = runpy.run_path(str(DOCS / "completion_table.py"))["completion_table"]()
    assert TABLE.read_text("utf-8") == made, "run `python docs/make.py`"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["hi"], ["history"]),
        (["history", "ex"], ["export"]),
        (["ask", "--each", "--to"], ["--top-p"]),
        (["ask", "--backend", "to"], ["torch"]),
        (["ask", "--backend=to"], ["--backend=torch"]),
        (["ask", "-i", "dog"], [FILES]),
        (["chat", "dog"], [FILES]),
        (["models", "show", "mini", ""], ["--help", "--json"]),
        (
            ["models", "show", "mini"],
            ["mini", *[f"minigpt4-{size}" for size in ("llama2-7b", "vicuna-13b", "vicuna-7b")]],
        ),
        (["train", "--recipe", "mini-stage2"], ["mini-stage2", FILES]),
        (["chat", "--theme", "emb"], ["ember"]),
        (["themes", "new", ""], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["nonsense", "--what", ""], ["chat"]),
    ],
)
def test_what_may_come_next(words: list[str], found: list[str]) -> None:
    assert values(*words)[: max(len(found), 1)] == found


def test_what_people_made_themselves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("bundles", "themes"):
        (config_home() / folder).mkdir(parents=True)
        (config_home() / folder / "mine.toml").write_text('summary = "My own"')
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "recipe.toml").write_text("")
    (tmp_path / "runs" / "notes").mkdir()
    assert candidates(["models", "path", "mine"]) == [("mine", "My own")]
    assert values("themes", "path", "mi") == ["mine"]
    for option in ("--watch", "--output"):
        assert values("train", option, "") == ["runs/first", FILES]


def test_conversations_are_shown_with_their_titles() -> None:
    store = Store.open()
    kept, deleted = store.new_conversation(), store.new_conversation()
    store.rename(kept.id, "A dog\x1b[2J\non a beach")
    store.delete(deleted.id)
    store.close()
    about = "A dog[2J on a beach"
    assert candidates(["history", "show", ""]) == [(kept.id[:8], about)]
    assert candidates(["chat", "--resume", kept.id[:3]]) == [(kept.id[:8], about)]
    assert values("history", "restore", "") == [deleted.id[:8]]


def completed(line: str, folder: Path) -> list[str]:
    """What bash would offer for a line that ends where Tab is pressed."""
    script = r"""
        PATH=$1:$PATH; source <(minigpt4 completion bash)
        eval "words=($2)"; COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1))
        _minigpt4 minigpt4; printf '%s\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(SCRIPTS_FOLDER), line],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_offers_commands_values_and_files(tmp_path: Path) -> None:
    (tmp_path / "my theme.toml").write_text("")
    assert completed("minigpt4 history ex", tmp_path) == ["export"]
    assert completed("minigpt4 ask --backend = to", tmp_path) == ["torch"]
    assert completed("minigpt4 themes check m", tmp_path) == ["moss", "my theme.toml"]
    assert completed("minigpt4 ask -i my", tmp_path) == [""]  # readline completes paths itself


@pytest.mark.parametrize(
    ("shell", "words", "line"),
    [
        ("zsh", ["history", "ex"], "export:Write conversations as Markdown, HTML or JSON."),
        ("fish", ["history", "ex"], "export\tWrite conversations as Markdown, HTML or JSON."),
        ("bash", ["history", "ex"], "export"),
        ("zsh", ["ask", "-i", ""], FILES),
    ],
)
def test_each_shell_is_answered_in_its_form(run_minigpt4, shell: str, words: list[str], line: str) -> None:
    done = run_minigpt4("completion", "--words", shell, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{line}\n", "")


def test_the_scripts_are_printed_and_another_shell_is_one_line(run_minigpt4) -> None:
    for shell, script in SCRIPTS.items():
        assert run_minigpt4("completion", shell).stdout == script
    done = run_minigpt4("completion", "bsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "minigpt4: There is no completion for 'bsh'; did you mean 'bash'?\n"


def test_a_tab_imports_nothing_heavy_and_takes_little_more_than_python_itself() -> None:
    words = "from minigpt4.tui.cli import main; main(['completion', '--words', 'fish', 'models', 'show', ''])"

    def seconds(code: str) -> float:
        before = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-c", code], stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - before

    # Side by side, so that a busy machine slows both.
    pairs = [(seconds("pass"), seconds(words)) for _ in range(7)]
    bare = statistics.median(one for one, _ in pairs)
    assert statistics.median(tab for _, tab in pairs) < max(TAB_S, 7 * bare)
    listed = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); " + words
    done = subprocess.run([sys.executable, "-P", "-c", listed], capture_output=True, text=True, check=True)
    heavy = {"typer", "click", "pydantic", "torch", "numpy", "PIL", "rich", "textual", "sqlite3"}
    assert not heavy & set(done.stderr.split())
