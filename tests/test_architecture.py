"""Imports run one way and without cycles, start-up loads no model library, files stay short."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "minigpt4.core": ROOT / "core",
    "minigpt4.train": ROOT / "train",
    "minigpt4.themes": ROOT / "themes",
    "minigpt4.tui": ROOT / "minigpt4_tui",
}
OURS = ("core", "train", "themes", "tui", "minigpt4_tui")
SCREENS = ("typer", "click", "rich", "textual", "prompt_toolkit", "curses")
HEAVY = ("torch", "transformers", "llama_cpp", "gguf", "tokenizers", "safetensors", "huggingface_hub")
DECLINED = ("torchvision", "timm", "textual_image.widget")

FORBIDDEN = {
    "minigpt4.core": ("minigpt4.train", "minigpt4.tui", "minigpt4.themes", *SCREENS),
    "minigpt4.train": ("minigpt4.tui", "minigpt4.themes", *SCREENS),
    "minigpt4.themes": ("minigpt4.train", "minigpt4.tui", *SCREENS, *HEAVY),
    "minigpt4.tui": (),
}

TORCH_FREE = (
    "minigpt4.core.download.remote_size",
    "minigpt4.core.bundles.bundle",
    "minigpt4.core.engine",
    "minigpt4.core.errors",
    "minigpt4.core.download.fetch",
    "minigpt4.core.bundles.source",
    "minigpt4.core.storage.paths",
    "minigpt4.core.language.llamacpp",
    "minigpt4.core.types",
    "minigpt4.core.language.sampling",
    "minigpt4.core.language.load",
    "minigpt4.core.language.detokenizer",
    "minigpt4.core.weights.locate",
    "minigpt4.core.memory",
    "minigpt4.core.pixels",
    "minigpt4.core.prompt",
    "minigpt4.core.download.checksum_note",
    "minigpt4.themes",
)


def sources(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def module_name(package: str, path: Path) -> str:
    parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join([package, *(part for part in parts if part != "__init__")])


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that any import statement below `tree` may load, as written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module)


def at_module_level(tree: ast.Module) -> ast.Module:
    """`tree` without function bodies and without what only a type checker reads."""

    class Prune(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if ast.unparse(node.test).endswith("TYPE_CHECKING") else self.generic_visit(node)

    pruned = Prune().visit(tree)
    assert isinstance(pruned, ast.Module)
    return pruned


def within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def offences(package: str, modules: tuple[str, ...], *, at_import: bool = False) -> list[str]:
    found = []
    for path in sources(package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = set(imported(at_module_level(tree) if at_import else tree))
        found += [
            f"{path.relative_to(ROOT)} imports {name}" for name in sorted(names) if within(name, modules)
        ]
    return found


def test_each_package_has_modules_to_look_at() -> None:
    assert all(sources(package) for package in PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_from_screens_to_learning_to_models_only(package: str) -> None:
    assert offences(package, FORBIDDEN[package]) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_our_modules_are_imported_by_their_full_name(package: str) -> None:
    """A plain `core` or `train` would find a file of that name in the user's own folder."""
    assert offences(package, OURS) == []
    relative = [
        str(path.relative_to(ROOT))
        for path in sources(package)
        if any(name.startswith(".") for name in imported(ast.parse(path.read_text(encoding="utf-8"))))
    ]
    assert relative == []


@pytest.mark.parametrize("package", PACKAGES)
def test_libraries_that_were_decided_against_stay_out(package: str) -> None:
    assert offences(package, DECLINED) == []


def test_screens_load_neither_models_nor_training_before_a_command_needs_them() -> None:
    assert offences("minigpt4.tui", (*HEAVY, "minigpt4.train"), at_import=True) == []


def loaded_after_importing(modules: list[str]) -> set[str]:
    """Names in sys.modules of a fresh process that imported `modules`."""
    script = (
        "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *modules],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_what_screens_import_reaches_no_model_library_by_a_detour() -> None:
    modules = [module_name("minigpt4.tui", path) for path in sources("minigpt4.tui")]
    modules = [name for name in modules if not name.endswith("__main__")]
    assert loaded_after_importing(modules) & {"torch", "transformers", "llama_cpp"} == set()


def test_the_first_frame_of_the_chat_waits_for_nothing_that_only_later_ones_need() -> None:
    first = ["minigpt4.tui.cli", "minigpt4.tui.cli.chat.app", "minigpt4.tui.app.app"]
    later = {"typer", "pydantic", "numpy", "PIL", "markdown_it", "tomlkit", "minigpt4.core.worker.messages"}
    assert loaded_after_importing(first) & later == set()


def test_options_that_nobody_typed_are_not_checked() -> None:
    script = (
        "import sys\nfrom minigpt4.tui.cli import main\n"
        "try: main(['chat', '--plain', '--bundle', 'no such bundle', 'photo.jpg'])\n"
        "except SystemExit: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert "no such bundle" in done.stderr
    loaded = done.stdout.split()
    assert "typer" in loaded and "pydantic" not in loaded


def test_answering_about_a_known_picture_can_do_without_torch() -> None:
    assert loaded_after_importing(list(TORCH_FREE)) & {"torch", "transformers"} == set()


@cache
def the_map() -> ModuleType:
    """`docs/draw_architecture.py`, which finds the components and their imports."""
    path = ROOT / "docs" / "draw_architecture.py"
    spec = importlib.util.spec_from_file_location("draw_architecture", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def test_no_component_imports_itself_through_others() -> None:
    _, imports = the_map().components_and_imports()
    assert the_map().import_cycle(imports) == []


def test_a_cycle_would_be_found() -> None:
    assert the_map().import_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert the_map().import_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_map_shows_todays_imports() -> None:
    drawn = the_map().PICTURE.read_text(encoding="utf-8")
    assert drawn == the_map().svg(), "run `python docs/draw_architecture.py`, and look at the picture"


MUST_NOT_IMPORT = {
    # A folder, and the folders of which it must not know anything, directly or through others.
    "core/weights/": ("core/language/", "core/vision/", "core/worker/", "core/engine.py"),
    "core/language/": ("core/vision/", "core/worker/", "core/engine.py"),
    "core/vision/": ("core/language/", "core/worker/", "core/engine.py"),
    "core/bundles/": ("core/weights/", "core/language/", "core/vision/", "core/download/"),
    "train/packing/": ("train/data/", "train/features/", "train/run/", "train/trainer.py"),
    "train/data/": ("train/packing/", "train/run/", "train/features/", "train/trainer.py"),
    "train/run/": ("train/trainer.py", "train/loop.py", "train/evaluate/"),
    "minigpt4_tui/history/": (
        "minigpt4_tui/app/",
        "minigpt4_tui/cli/",
        "minigpt4_tui/screens/",
        "minigpt4_tui/widgets/",
    ),
    "minigpt4_tui/conversation/": (
        "minigpt4_tui/app/",
        "minigpt4_tui/cli/",
        "minigpt4_tui/screens/",
        "minigpt4_tui/widgets/",
    ),
    "minigpt4_tui/settings/": (
        "minigpt4_tui/app/",
        "minigpt4_tui/cli/",
        "minigpt4_tui/screens/",
        "minigpt4_tui/widgets/",
    ),
    "minigpt4_tui/doctor/": ("minigpt4_tui/app/", "minigpt4_tui/cli/", "minigpt4_tui/screens/"),
    "minigpt4_tui/widgets/": ("minigpt4_tui/app/", "minigpt4_tui/cli/", "minigpt4_tui/screens/"),
    "minigpt4_tui/screens/": ("minigpt4_tui/app/", "minigpt4_tui/cli/"),
    "minigpt4_tui/app/": ("minigpt4_tui/cli/",),
}


@pytest.mark.parametrize("component", MUST_NOT_IMPORT)
def test_a_component_imports_nothing_above_it(component: str) -> None:
    _, imports = the_map().components_and_imports()
    for strangers in MUST_NOT_IMPORT[component]:
        assert strangers in imports, f"{strangers} is gone; correct MUST_NOT_IMPORT"
    known, waiting = set[str](), [component]
    while waiting:
        for target in imports[waiting.pop()] - known:
            known.add(target)
            waiting.append(target)
    assert known & set(MUST_NOT_IMPORT[component]) == set()


def python_files() -> list[Path]:
    folders = ("core", "train", "minigpt4_tui", "themes", "tests", "benchmarks", "docs", "examples")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_no_folder_is_a_heap() -> None:
    modules: dict[Path, int] = {}
    for path in python_files():
        modules[path.parent] = modules.get(path.parent, 0) + (path.name != "__init__.py")
    assert {str(folder.relative_to(ROOT)): count for folder, count in modules.items() if count > 16} == {}


def test_every_folder_of_a_package_says_what_it_is_for() -> None:
    components, _ = the_map().components_and_imports()
    assert [path for path, component in components.items() if not component.purpose] == []


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in python_files()}
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    """A command may declare as many options as it has; its body is counted without them."""
    found = {}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                declares_options = "typer." in ast.unparse(node.args)
                start = node.body[0].lineno if declares_options else node.lineno
                if node.end_lineno - start >= 60:
                    found[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = node.end_lineno - start + 1
    assert found == {}


MACHINE_PATH = re.compile(r"(?<![\w.:/~<>-])/(?:home|root|Users|work|opt|mnt|srv|tmp|private)/[\w.]")
"""A path of somebody's machine; `~/x`, `https://x/opt/y` and `NAME/tmp/x` are none."""

TEXT_FOLDERS = ("core", "train", "themes", "minigpt4_tui", "tests", "benchmarks", "examples", "docs", ".ci")
TEXT_SUFFIXES = {
    ".py",
    ".toml",
    ".md",
    ".txt",
    ".tsv",
    ".json",
    ".jsonl",
    ".svg",
    ".cfg",
    ".yaml",
    ".yml",
    "",
}


def project_texts() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT_SUFFIXES)
    yield from (ROOT / "src" / "minigpt4").glob("*.py")
    for folder in TEXT_FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts:
                yield path


def test_no_file_mentions_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in project_texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_a_path_of_one_machine_would_be_seen() -> None:
    slash = "/"
    assert MACHINE_PATH.search(f'open("{slash}home{slash}ann/cat.jpg")')
    assert not MACHINE_PATH.search("https://example.org/opt/x and ~/tmp/x")
