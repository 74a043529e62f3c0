"""Tab completion: what may come next, in a real bash, and how long a Tab takes."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pexpect
import pytest

from minigpt4.core.storage.paths import config_home, data_home
from minigpt4.tui.cli.completion.scripts import SCRIPTS
from minigpt4.tui.cli.completion.table import TABLE
from minigpt4.tui.cli.completion.values import CHOICES, config_folder, data_folder
from minigpt4.tui.cli.completion.words import candidates
from minigpt4.tui.history.store import Store

DOCS = Path(__file__).parents[4] / "docs"
SCRIPTS_FOLDER = Path(sysconfig.get_path("scripts"))
FILES = ":files"
TAB_S = 0.15


def values(*words: str) -> list[str]:
    return [value for value, _ in candidates(words)]


def test_the_table_is_current() -> None:
    made = runpy.run_path(str(DOCS / "completion_table.py"))["completion_table"]()
    assert Path(TABLE).read_text("utf-8") == made, "run `python docs/make.py`"


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
            ["mini", "mini-without-detector", "minigpt4-llama2-7b", "minigpt4-vicuna-13b"],
        ),
        (["train", "--recipe", "mini-stage2"], ["mini-stage2", f"{FILES} toml"]),
        (["themes", "check", "ember"], ["ember", f"{FILES} toml"]),
        (["train", "--set", "learning"], ["learning_rate="]),
        (["train", "--set=learning"], ["--set=learning_rate="]),
        (["train", "--set", "precision=n"], ["precision=nf4"]),
        (["train", "--set", "bundle=mini"], ["bundle=mini", "bundle=mini-without-detector"]),
        (["train", "--recipe", "mini-stage2", "--set", "learning_rate="], ["learning_rate=3e-4"]),
        (["train", "--recipe=stage2", "--set", "learning_rate="], ["learning_rate=3e-5"]),
        (["train", "--stage", "2", "--set", "steps="], ["steps=300"]),
        (
            ["train", "--stage", "2", "-b", "minigpt4-vicuna-7b", "--set", "bundle=mini"],
            ["bundle=minigpt4-vicuna-13b"],
        ),
        (["train", "--stage", "2", "--set", "source.cats.w"], ["source.cats.weight="]),
        (
            ["train", "--stage", "2", "--set", "source.flickr8k/train.kind="],
            ["source.flickr8k/train.kind=captions"],
        ),
        (["train", "--set", "steps=3", "--set", "validation.p"], ["validation.photos="]),
        (["train", "--set", "nonsense="], []),
        (["train", "--recipe", "no/such.toml", "--set", "prompt=c"], ["prompt=chat"]),
        (["ask", "/st"], ["/story"]),
        (["prompts", "show", "po"], ["poem"]),
        (["ask", "What is"], []),
        (["chat", "--theme", "emb"], ["ember"]),
        (["themes", "new", ""], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["nonsense", "--what", ""], ["chat"]),
        (["caption", "photos", "--existing", ""], ["skip", "append", "overwrite"]),
        (["caption", "--device", "cu"], ["cuda"]),
        (["models", "trace", "--dtype", "b"], ["bfloat16"]),
        (["train", "--on", "4"], ["4090"]),
        (["curate", "photos", "--without", "similar"], ["similar-text", "similar-picture"]),
        (["curate", "--until=f"], ["--until=filter"]),
        (["eval", "judge", "--judge-bundle", "mini"], ["mini"]),
    ],
)
def test_what_may_come_next(words: list[str], found: list[str]) -> None:
    assert values(*words)[: max(len(found), 1)] == found


def test_the_choices_of_an_option_are_those_that_its_help_names() -> None:
    rows = [line.split("\t") for line in Path(TABLE).read_text(encoding="utf-8").splitlines()]
    listed = "--device --dtype --existing --export --format --gguf --on --type --until --without".split()
    options = [
        row for row in rows if row[:1] == ["option"] and row[1] in listed and row[2].startswith(CHOICES)
    ]
    assert {row[1] for row in options} == set(listed)
    for _, option, kind, _, about in options:
        named = {word.strip(".,:;()") for word in about.split()}
        assert set(kind.removeprefix(CHOICES).split()) <= named, option


def test_what_people_made_themselves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("bundles", "themes", "prompts"):
        (config_home() / folder).mkdir(parents=True)
        (config_home() / folder / "mine.toml").write_text('summary = "My own"\nabout = "ours # replaced"')
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "recipe.toml").write_text('stage = 2 # the second\nbundle = "mini"\n')
    (tmp_path / "runs" / "notes").mkdir()
    assert candidates(["models", "path", "mine"]) == [("mine", "My own")]
    assert values("themes", "path", "mi") == ["mine"]
    assert candidates(["ask", "/mi"]) == [("/mine", "ours # replaced")]
    assert candidates(["train", "--output", "runs/"])[0] == ("runs/first", "stage 2 of mini")
    assert values("train", "--output", "~/runs/") == [FILES], "a shell would quote the ~"
    for option in ("--watch", "--output"):
        assert values("train", option, "") == ["runs/first", FILES]


def test_conversations_are_shown_with_their_titles() -> None:
    store = Store.open()
    kept, deleted = store.new_conversation(), store.new_conversation()
    store.rename(kept.id, "A dog\x1b[2J\non a beach")
    store.delete(deleted.id)
    store.close()
    about = "A dog[2J on a beach"
    assert candidates(["history", "show", ""]) == [("last", f"the latest: {about}"), (kept.id[:8], about)]
    assert candidates(["chat", "--resume", "la"]) == [("last", f"the latest: {about}")]
    assert candidates(["chat", "--resume", kept.id[:3]]) == [(kept.id[:8], about)]
    assert values("history", "restore", "") == ["last", deleted.id[:8]]


def test_the_latest_conversation_is_not_a_pinned_old_one() -> None:
    store = Store.open()
    for title in ("An old one", "The newest"):
        info = store.new_conversation()
        store.rename(info.id, title)
        store.add_message(info.id, None, "user", title, ())
        store.pin(info.id, title == "An old one")
    store.close()
    assert [about for _, about in candidates(["history", "show", ""])] == [
        "the latest: The newest",
        "An old one",
        "The newest",
    ]


def test_without_conversations_none_is_the_last() -> None:
    assert values("history", "show", "") == []
    Store.open().close()
    assert values("history", "show", "") == []


def test_the_folders_are_those_of_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("MINIGPT4_HOME", "here"),
        ("MINIGPT4_HOME", "~/there"),
        ("XDG_DATA_HOME", "/x"),
        ("XDG_CONFIG_HOME", " "),
    ):
        with monkeypatch.context() as patch:
            patch.delenv("MINIGPT4_HOME", raising=False)
            patch.setenv(name, value)
            assert (config_folder(), data_folder()) == (str(config_home()), str(data_home()))


def test_an_own_recipe_gives_its_values(tmp_path: Path) -> None:
    recipe = tmp_path / "my recipe.toml"
    recipe.write_text(
        'steps = 7  # few\n[[source]]\nname = "cats: mine"\nweight = 2.5\n[validation]\nphotos = 3\n'
    )
    words = ["train", "--recipe", str(recipe), "--set"]
    assert candidates([*words, "steps"]) == [("steps=", "now 7; Optimiser steps")]
    assert values(*words, "source.cats: mine.weight=") == ["source.cats: mine.weight=2.5"]
    assert values(*words, "validation.photos=") == ["validation.photos=3"]


def completed(line: str, folder: Path) -> list[str]:
    """What bash would offer for a line that ends where Tab is pressed."""
    script = r"""
        PATH=$1:$PATH; source <(minigpt4 completion bash)
        COMP_LINE=$2; COMP_POINT=${#2}; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _minigpt4 minigpt4; printf '%s\n' "${COMPREPLY[@]}"
    """
    # As bash splits it; a word that begins after the last space is there, too.
    split = re.findall(r"[=:]+|(?:\\.|[^\s=:])+", line) + [""] * line.endswith(" ")
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(SCRIPTS_FOLDER), line, *split],
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
    (tmp_path / "my notes.txt").write_text("")
    (tmp_path / "more").mkdir()
    assert completed("minigpt4 ask --backend=to", tmp_path) == ["torch"]
    assert completed("minigpt4 ask --backend=", tmp_path)[:2] == ["auto", "torch"]
    assert completed("minigpt4 themes check m", tmp_path) == ["moss", "my theme.toml", "more"]
    assert completed("minigpt4 themes check my\\ t", tmp_path) == ["my theme.toml"]
    assert completed("minigpt4 train --set cosine", tmp_path) == ["cosine_over="]
    for line in ("train --set precision=", "train --set=precision=", "train --steps 3 --set precision=n"):
        assert completed(f"minigpt4 {line}", tmp_path)[-1] == "nf4"
    assert completed("minigpt4 ask -i my", tmp_path) == [""]  # readline completes paths itself


def test_a_tab_in_a_real_bash_leaves_a_line_that_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "my own.toml").write_text("steps = 7\n")
    typed = {
        "tra\t--set cosine_o\tre\t": ["train", "--set", "cosine_over=rest"],
        "train --set=cosine_o\tre\t": ["train", "--set=cosine_over=rest"],
        "train --recipe my\t--set ste\t7\t": ["train", "--recipe", "my own.toml", "--set", "steps=7"],
        "ask /sto\t": ["ask", "/story"],
    }
    bash = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile", "-i"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{SCRIPTS_FOLDER}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"},
        encoding="utf-8",
        timeout=60,
        dimensions=(40, 300),
    )
    # Of the program only completion is wanted; of any other line, the words that it consists of.
    shown = """minigpt4() { [[ $1 == completion ]] && command minigpt4 "$@" || printf '<%s>' "$@" $'\\n'; }"""
    bash.sendline(f"bind 'set bell-style none'; source <(minigpt4 completion bash); {shown}; echo rea''dy")
    bash.expect_exact("ready\r\n")
    for keys, words in typed.items():
        bash.sendline(f"minigpt4 {keys}")
        bash.expect_exact("".join(f"<{word}>" for word in words))
    bash.close(force=True)


INTERACTIVE = {
    "zsh": (
        ["-f", "-i"],
        "autoload -Uz compinit; compinit -D -u; source <(minigpt4 completion zsh)",
        """minigpt4() { [[ $1 == completion ]] && command minigpt4 "$@" || printf '<%s>' "$@"; }""",
    ),
    "fish": (
        ["--no-config"],
        "minigpt4 completion fish | source",
        "function minigpt4; printf '<%s>' $argv; end",
    ),
}
"""Options, what reads the completions, and a stand-in that shows the words that a line consists of."""


@pytest.mark.parametrize("shell", INTERACTIVE)
def test_a_tab_in_a_real_zsh_and_fish_leaves_a_line_that_can_be_run(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "my own.toml").write_text("steps = 7\n")
    (tmp_path / "my photo.jpg").touch()
    typed = {
        "his\tex\t": ["history", "export"],
        "tra\t--set cosine_o\tre\t": ["train", "--set", "cosine_over=rest"],
        "train --recipe my\t--set ste\t7": ["train", "--recipe", "my own.toml", "--set", "steps=7"],
        "ask -i my\\ p\t": ["ask", "-i", "my photo.jpg"],
    }
    options, source, stand_in = INTERACTIVE[shell]
    terminal = pexpect.spawn(
        shell,
        options,
        cwd=tmp_path,
        env=os.environ
        | {"PATH": f"{SCRIPTS_FOLDER}:{os.environ['PATH']}", "TERM": "xterm", "HOME": str(tmp_path)},
        encoding="utf-8",
        timeout=60,
        dimensions=(40, 300),
    )
    terminal.sendline(f"{source}; {stand_in}; echo rea''dy")
    terminal.expect("ready")
    for keys, words in typed.items():
        terminal.send("minigpt4 ")
        for part in re.split("(?<=\t)", keys):
            terminal.send(part)
            time.sleep(1)  # until the Tab is answered: what is typed meanwhile goes on before it
        terminal.send("\r")
        terminal.expect_exact("".join(f"<{word}>" for word in words))
    terminal.close(force=True)


@pytest.mark.parametrize(
    ("shell", "words", "line"),
    [
        ("zsh", ["history", "ex"], "export:Write conversations as Markdown, HTML or JSON."),
        ("fish", ["history", "ex"], "export\tWrite conversations as Markdown, HTML or JSON."),
        ("bash", ["history", "ex"], "export"),
        ("zsh", ["ask", "-i", ""], FILES),
        ("fish", ["train", "--set", "beta1"], "beta1=\tAdamW's decay of the mean gradient"),
        ("zsh", ["train", "--set", "beta1"], "beta1=:AdamW's decay of the mean gradient"),
        ("bash", ["train", "--set", "beta1"], "beta1="),
        ("fish", ["train", "--recipe", "my\\ own"], f"{FILES} toml"),
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
    assert statistics.median(tab for _, tab in pairs) < max(TAB_S, 4 * bare)
    listed = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); " + words
    done = subprocess.run([sys.executable, "-P", "-c", listed], capture_output=True, text=True, check=True)
    heavy = {"typer", "click", "pydantic", "torch", "numpy", "PIL", "rich", "textual", "sqlite3"}
    # Each of these takes 5 to 20 ms.
    heavy |= {"typing", "re", "pathlib", "json", "platformdirs", "dataclasses", "urllib"}
    assert not heavy & set(done.stderr.split())
