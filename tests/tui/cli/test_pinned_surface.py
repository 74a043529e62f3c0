"""What scripts and files of others depend on, held as it is: options, JSON outputs, keys of files.

    pinned/options.json   every command: its usage, arguments and options with their types and defaults
    pinned/outputs.json   the keys and types of everything that `--json` prints, and of a JSON export
    pinned/keys.json      the keys of settings, actions, themes, recipes and manifests

Only the command line and files that come with the program are used, so that these tests hold through any
moving of modules; prose may be reworded freely. After a change that is meant,

    PIN=1 python -m pytest tests/tui/cli/test_pinned_surface.py

writes the files anew (run all of it: what was not asked for is left out); review their diff by hand.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

PINNED = Path(__file__).parent / "pinned"
REPOSITORY = Path(__file__).parents[3]
IS_PINNING = bool(os.environ.get("PIN"))

COMMANDS = {
    "": "chat ask caption history models train data themes prompts config doctor bench eval curate "
    "completion",
    "history": "list search show export import delete restore rename pin unpin",
    "models": "list show pull path import export verify quantize synth trace",
    "data": "prepare inspect",
    "themes": "list check new path",
    "prompts": "list show path",
    "config": "path show check",
    "eval": "captions subjects fluency failures coverage tasks chair presence counting vqa judge report "
    "ablations",
}
"""What each group holds; "" is the program itself."""

PAGES = [
    "",
    *(f"{group} {name}".strip() for group, names in COMMANDS.items() for name in names.split()),
]

Call = Callable[..., subprocess.CompletedProcess[str]]
Hold = Callable[[str, str, Any], None]


@pytest.fixture(scope="module")
def _files() -> Iterator[dict[str, dict[str, Any]]]:
    """The pinned files, read when first asked for; with PIN set, written at the end."""
    files: dict[str, dict[str, Any]] = {}
    yield files
    if IS_PINNING:
        for name, content in files.items():
            text = json.dumps(dict(sorted(content.items())), indent=2, ensure_ascii=False)
            (PINNED / name).write_text(text + "\n", encoding="utf-8")


@pytest.fixture
def hold(_files: dict[str, dict[str, Any]]) -> Hold:
    """Compare what was found with what is pinned in a file under a key, or pin it."""

    def compare(file: str, key: str, found: Any) -> None:
        path = PINNED / file
        if file not in _files:
            _files[file] = {} if IS_PINNING else json.loads(path.read_text("utf-8"))
        if IS_PINNING:
            _files[file][key] = found
        wanted = _files[file].get(key)
        # As texts, too: the order of keys and options is part of what people see.
        assert json.dumps(found, indent=1) == json.dumps(wanted, indent=1), f"{key} of {file} has changed"

    return compare


@pytest.fixture
def printed(call_minigpt4: Call, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command prints on standard output; it may find problems, but not fail."""

    def call(*arguments: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        monkeypatch.setenv("COLUMNS", "80")
        done = call_minigpt4(*arguments)
        assert done.returncode in codes, done.stderr
        return done.stdout

    return call


# Options


@pytest.mark.parametrize("page", PAGES)
def test_arguments_and_options_are_as_they_were(page: str, printed: Callable[..., str], hold: Hold) -> None:
    hold("options.json", f"minigpt4 {page}".strip(), surface(printed(*page.split(), "--help")))


@pytest.mark.parametrize("group", COMMANDS)
def test_a_group_shows_these_commands_and_no_others(group: str, printed: Callable[..., str]) -> None:
    _, _, commands = printed(*group.split(), "--help").partition("\nCommands:\n")
    assert re.findall(r"^  ([a-z]\S*)", commands, re.MULTILINE) == COMMANDS[group].split()


@pytest.mark.parametrize("page", [page for page in PAGES if page not in COMMANDS])
def test_no_other_command_has_commands(page: str, printed: Callable[..., str]) -> None:
    assert "\nCommands:\n" not in printed(*page.split(), "--help")


@pytest.mark.skipif(IS_PINNING, reason="the file is not written yet")
def test_no_page_is_pinned_that_is_no_more() -> None:
    pinned = json.loads((PINNED / "options.json").read_text("utf-8"))
    assert set(pinned) == {f"minigpt4 {page}".strip() for page in PAGES}


def surface(page: str) -> dict[str, Any]:
    """A help page without its prose: usage, and what stands in brackets after each parameter's text."""
    usage, *_ = page.split("\n\n")
    found: dict[str, Any] = {"usage": " ".join(usage.removeprefix("Usage: ").split())}
    for section in ("Arguments", "Options"):
        _, _, rest = page.partition(f"\n{section}:\n")
        rows: dict[str, str] = {}
        name = ""
        for line in rest.partition("\n\n")[0].splitlines():
            if re.match(r"  \S", line):
                name, _, text = line.strip().partition("  ")
                rows[name] = text.strip()
            else:
                rows[name] = f"{rows[name]} {line.strip()}"
        found[section.lower()] = {name: facts(text) for name, text in rows.items()}
    return {key: value for key, value in found.items() if value}


def facts(text: str) -> str:
    """`default: 2; x>=1` of a text that ends in [default: 2; x>=1]."""
    match = re.search(r"\[([^\[\]]*)\]$", text)
    return match[1] if match else ""


# JSON outputs


def test_outputs_about_what_is_there_by_itself(printed: Callable[..., str], hold: Hold) -> None:
    for command in (
        "models list",
        "models show mini",
        "models show minigpt4-vicuna-7b",
        "models show minigpt4-llama2-7b",
        "models verify mini",
        "themes list",
        "config show",
        "train --stage 1 --estimate --on A100",
        "train --stage 1 --estimate --on A100 --bundle minigpt4-vicuna-13b",
    ):
        # What is not here is a problem to `verify`, as to `doctor` what a machine lacks.
        output = printed(*command.split(), "--json", codes=(0, 1) if "verify" in command else (0,))
        hold("outputs.json", f"minigpt4 {command} --json", shape(json.loads(output)))


def test_outputs_of_doctor(printed: Callable[..., str], hold: Hold) -> None:
    findings = json.loads(printed("doctor", "--json", codes=(0, 1)))
    hold("outputs.json", "minigpt4 doctor --json", shape(findings))
    assert {finding["state"] for finding in findings} <= {"ok", "warning", "problem"}


def test_outputs_of_history(printed: Callable[..., str], hold: Hold) -> None:
    printed("history", "import", PINNED / "files" / "conversations.json")
    for command in ("history list", "history show last", "history search cat"):
        hold(
            "outputs.json",
            f"minigpt4 {command} --json",
            shape(json.loads(printed(*command.split(), "--json"))),
        )
    exported = json.loads(printed("history", "export", "--all", "--format", "json"))
    # Digests are the keys of this table.
    exported["pictures"] = list(exported["pictures"].values())
    hold("outputs.json", "minigpt4 history export --all --format json", shape(exported))


def test_outputs_of_inspecting_data(
    printed: Callable[..., str], hold: Hold, examples: Path, tmp_path: Path
) -> None:
    for name in ("cat.png", "again.png", "coffee.jpg"):
        source = "coffee.jpg" if name == "coffee.jpg" else "chelsea.png"
        (tmp_path / name).write_bytes((examples / source).read_bytes())
        (tmp_path / name).with_suffix(".txt").write_text("A cat looks into the camera.")
    (tmp_path / "words.jpg").write_text("no picture")
    (tmp_path / "words.txt").write_text("A caption of nothing.")
    output = printed("data", "inspect", tmp_path, "--json")
    hold("outputs.json", "minigpt4 data inspect FOLDER --json", shape(json.loads(output)))


def test_outputs_of_the_model(
    mini_home: Path, run_minigpt4: Call, hold: Hold, examples: Path, tmp_path: Path
) -> None:
    pictures = ("-i", examples / "chelsea.png", "-i", examples / "coffee.jpg")
    question = ("--max-tokens", "3", "What is in this picture?")
    one = run_minigpt4("ask", "--json", *pictures[:2], *question)
    each = run_minigpt4("ask", "--json", "--each", *pictures, *question)
    hold("outputs.json", "minigpt4 ask --json -i PICTURE QUESTION", shape(json.loads(one.stdout)))
    records = [json.loads(line) for line in each.stdout.splitlines()]
    assert len(records) == 2
    hold("outputs.json", "minigpt4 ask --json --each -i A -i B QUESTION, a line", shape(records))


def test_outputs_of_eval(
    mini_home: Path, run_minigpt4: Call, hold: Hold, examples: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as shard:
        meta = json.dumps({"captions": ["A cat looks into the camera.", "A cat."]}).encode()
        for name, content in (("cat.png", (examples / "chelsea.png").read_bytes()), ("cat.json", meta)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    done = run_minigpt4("eval", "captions", "--data", "00000.tar", "--json", "-o", "run")
    assert done.returncode == 0, done.stderr
    hold("outputs.json", "minigpt4 eval captions --data SHARDS --json", shape(json.loads(done.stdout)))
    (line,) = (tmp_path / "run" / "answers.jsonl").read_text("utf-8").splitlines()
    hold(
        "outputs.json",
        "minigpt4 eval captions --data SHARDS -o RUN, a line of answers.jsonl",
        shape(json.loads(line)),
    )
    header = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    hold("outputs.json", "minigpt4 eval captions --data SHARDS -o RUN, run.json", shape(header))


def shape(value: Any) -> Any:
    """Keys and types; a list is the shape of all its members together, `?` marks keys that not all have."""
    match value:
        case dict():
            return {key: shape(item) for key, item in value.items()}
        case list():
            return [reduce(joined, map(shape, value))] if value else []
        case None:
            return "null"
        case bool():
            return "truth"
        case str():
            return "text"
        case int():
            return "whole"
    return "number"


def joined(one: Any, other: Any) -> Any:
    """The shape of either of two members of a list."""
    if isinstance(one, dict) and isinstance(other, dict):
        both: dict[str, Any] = {}
        for key in dict.fromkeys(name.removesuffix("?") for name in (*one, *other)):
            kinds = [side[name] for side in (one, other) for name in (key, f"{key}?") if name in side]
            both[key if key in one and key in other else f"{key}?"] = reduce(joined, kinds)
        return both
    if isinstance(one, list) and isinstance(other, list):
        return [joined(one[0], other[0])] if one and other else one or other
    assert isinstance(one, str) and isinstance(other, str), (one, other)
    return " or ".join(sorted({*one.split(" or "), *other.split(" or ")}))


# Keys of files


def test_settings_are_as_they_were(printed: Callable[..., str], hold: Hold) -> None:
    """Names, defaults, and the variables of the environment."""
    settings = json.loads(printed("config", "show", "--json"))["settings"]
    hold("keys.json", "settings", {name: row["value"] for name, row in settings.items()})
    about = printed("config", "show", "--about")
    hold("keys.json", "settings, variables", re.findall(r"\bMINIGPT4_[A-Z_]+", about))


def test_actions_and_their_keys_are_as_they_were(hold: Hold) -> None:
    """The page is made from the code, which another test holds."""
    page = (REPOSITORY / "docs" / "keys.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*?) \| .* \| `(\w+)` \|$", page, re.MULTILINE)
    hold("keys.json", "actions", {action: keys for keys, action in rows})


def test_themes_have_these_keys(
    call_minigpt4: Call, printed: Callable[..., str], hold: Hold, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text('zzzzzz = "red"')
    known = listed(call_minigpt4("themes", "check", tmp_path / "mine.toml").stderr)
    hold("keys.json", "theme", sorted(known))
    files = [Path(row["path"]) for row in json.loads(printed("themes", "list", "--json"))]
    hold("keys.json", "theme, shipped", {file.stem: sorted(read_toml(file)) for file in files})
    variables = {name for file in files for name in read_toml(file).get("variables", {})}
    hold("keys.json", "theme, variables of those shipped", sorted(variables))


@pytest.mark.parametrize(
    ("table", "prefix"), [("", ""), ("source", "source.laion."), ("validation", "validation.")]
)
def test_recipes_have_these_keys(table: str, prefix: str, call_minigpt4: Call, hold: Hold) -> None:
    done = call_minigpt4("train", "--recipe", "stage1", "--estimate", "--set", f"{prefix}zzzzzz=1")
    hold("keys.json", f"recipe, {table}" if table else "recipe", sorted(listed(done.stderr)))


def test_these_recipes_and_bundles_are_shipped(
    call_minigpt4: Call, printed: Callable[..., str], hold: Hold
) -> None:
    hold("keys.json", "recipes shipped", listed(call_minigpt4("train", "--recipe", "zzzzzz").stderr))
    for bundle in json.loads(printed("models", "list", "--json")):
        name = bundle["name"]
        manifest = json.loads(printed("models", "show", name, "--json"))["manifest"]
        hold("keys.json", f"manifest of {name}", shape(read_toml(Path(manifest))))


@pytest.mark.parametrize(
    "heading",
    [
        "summary = ",
        "[vision]",
        "[vision.file]",
        '[[vision.file.sources]]\nkind = "url"',
        '[[vision.file.sources]]\nkind = "hub"',
        "[projection]",
        "[language]",
        "[language.geometry]",
        "[language.file]",
        '[[language.file.sources]]\nkind = "path"',
        '[[language.file.sources]]\nkind = "wheel"',
        "[sampling]",
        "[qformer]",
        "[qformer.options]",
    ],
)
def test_manifests_have_these_keys(heading: str, call_minigpt4: Call, hold: Hold) -> None:
    """A key that no table has is put into each, and the others are told."""
    files = PINNED / "files"
    manifest = (files / "manifest.toml").read_text("utf-8")
    if "qformer" in heading:
        manifest += "\n[qformer]\n" + (files / "qformer.toml").read_text("utf-8")
    at = manifest.index(heading) + (len(heading) if heading.startswith("[") else 0)
    bundles = Path(os.environ["MINIGPT4_HOME"]) / "config" / "bundles"
    bundles.mkdir(parents=True)
    (bundles / "mine.toml").write_text(f"{manifest[:at]}\nzzzzzz = 1\n{manifest[at:]}")
    done = call_minigpt4("models", "show", "mine")
    assert "zzzzzz" in done.stderr
    name = heading.replace("\n", " ").removesuffix(" = ")
    hold("keys.json", f"manifest, {name}", sorted(listed(done.stderr)))


def listed(sentence: str) -> list[str]:
    """The longest list of names in a sentence, `stage, bundle, seed`, however it is worded."""
    found: list[str] = re.findall(r"[\w-]+(?:, (?!or\b)[\w-]+)+", sentence)
    return max(found, key=len).split(", ")


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))
