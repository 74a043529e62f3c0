"""Draw docs/architecture.svg from the project's own imports.

    python docs/draw_architecture.py            write the picture
    python docs/draw_architecture.py --check    exit 1 if the picture is out of date

A component is a folder of a package or one of its top-level modules. A component stands above every component
that it imports; arrows that follow from others (A imports B imports C, so A -> C) are not drawn.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = Path(__file__).with_name("architecture.svg")

PACKAGES = {
    "minigpt4_tui": "minigpt4.tui",
    "train": "minigpt4.train",
    "core": "minigpt4.core",
    "themes": "minigpt4.themes",
}
"""Folder and import name, from the top of the picture down."""

DRAWN = ("minigpt4_tui", "train", "core")

BOX_WIDTH, BOX_HEIGHT = 190, 46
GAP_X, GAP_Y = 14, 30
COLUMNS = 5
MARGIN, TITLE = 18, 34

FILLS = {"minigpt4_tui": "#dbe9f6", "train": "#e3f1da", "core": "#fbe9d0"}
STROKES = {"minigpt4_tui": "#3b6ea5", "train": "#4d8a3a", "core": "#b5751c"}


@dataclass(frozen=True)
class Component:
    """A folder of a package, or one of its top-level modules."""

    package: str
    name: str
    """`worker/` for a folder, `engine.py` for a module."""

    purpose: str
    """The first sentence of its docstring."""

    modules: int

    @property
    def path(self) -> str:
        return f"{self.package}/{self.name}"


Imports = dict[str, set[str]]
"""Paths of the components that each component imports, by its own path."""


@cache
def components_and_imports() -> tuple[dict[str, Component], Imports]:
    """Every component by path, and the imports between them, without those for type checking only."""
    modules = {
        _module_name(package, path): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.parent != ROOT / package or not path.name.startswith("__")
    }
    files: dict[str, list[Path]] = {}
    for path in modules.values():
        files.setdefault(_room_path(path), []).append(path)
    components = {path: _component(path, members) for path, members in files.items()}
    imports: Imports = {path: set() for path in components}
    for path in modules.values():
        for name in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            target = modules.get(name)
            if target is not None and _room_path(target) != _room_path(path):
                imports[_room_path(path)].add(_room_path(target))
    return components, imports


def import_cycle(imports: Imports) -> list[str]:
    """Components that import each other in a loop, in order; empty if there is none."""
    done: set[str] = set()

    def follow(component: str, trail: list[str]) -> list[str]:
        if component in trail:
            return [*trail[trail.index(component) :], component]
        if component in done:
            return []
        for target in sorted(imports[component]):
            if found := follow(target, [*trail, component]):
                return found
        done.add(component)
        return []

    for component in sorted(imports):
        if found := follow(component, []):
            return found
    return []


def levels(imports: Imports, package: str) -> dict[str, int]:
    """How far above the lowest each component of a package stands; needs imports without a cycle."""
    found: dict[str, int] = {}

    def level(component: str) -> int:
        if component not in found:
            below = [level(target) for target in imports[component] if target.startswith(f"{package}/")]
            found[component] = 1 + max(below, default=-1)
        return found[component]

    for component in imports:
        if component.startswith(f"{package}/"):
            level(component)
    return found


def drawn_arrows(imports: Imports, package: str) -> list[tuple[str, str]]:
    """The imports within a package that do not follow from others."""
    inside = {
        component: {target for target in targets if target.startswith(f"{package}/")}
        for component, targets in imports.items()
        if component.startswith(f"{package}/")
    }

    def reached(component: str) -> set[str]:
        return inside[component].union(*(reached(target) for target in inside[component]))

    return [
        (component, target)
        for component, targets in sorted(inside.items())
        for target in sorted(targets)
        if not any(target in reached(other) for other in targets - {target})
    ]


def svg() -> str:
    """The picture of the current imports; raises SystemExit if components import each other in a loop."""
    components, imports = components_and_imports()
    if loop := import_cycle(imports):
        raise SystemExit(f"These import each other in a loop: {' -> '.join(loop)}.")
    body: list[str] = []
    top = MARGIN
    for package in DRAWN:
        drawing, height = _package(package, components, imports, top)
        body += drawing
        top += height + MARGIN
    width = 2 * MARGIN + COLUMNS * (BOX_WIDTH + GAP_X) + GAP_X
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" '
        'font-family="Helvetica, Arial, sans-serif">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{top}" fill="#ffffff"/>', *body, "</svg>", ""])


def _package(
    package: str, components: Mapping[str, Component], imports: Imports, top: int
) -> tuple[list[str], int]:
    """One package's frame, arrows and boxes, and the height that they take."""
    places = _places(levels(imports, package), imports, top + TITLE)
    width = COLUMNS * (BOX_WIDTH + GAP_X) + GAP_X
    height = max(y for _, y in places.values()) + BOX_HEIGHT + GAP_Y // 2 - top
    below = [other for other in PACKAGES if _imports_from(package, other, imports)]
    title = package + (f"   imports {', '.join(below)}" if below else "")
    drawing = [
        f'<rect x="{MARGIN}" y="{top}" width="{width}" height="{height}" rx="10" fill="none" '
        f'stroke="{STROKES[package]}" stroke-width="1.5"/>',
        f'<text x="{MARGIN + 12}" y="{top + 22}" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    drawing += [
        _arrow(places[source], places[target], STROKES[package])
        for source, target in drawn_arrows(imports, package)
    ]
    for path, (x, y) in sorted(places.items()):
        drawing += _box(components[path], x, y)
    return drawing, height


def _places(level_of: Mapping[str, int], imports: Imports, top: int) -> dict[str, tuple[float, float]]:
    """Upper left corners, the top level first, each component near the middle of those that import it."""
    places: dict[str, tuple[float, float]] = {}
    y = top
    for level in sorted(set(level_of.values()), reverse=True):
        row = sorted(path for path, own in level_of.items() if own == level)

        def wanted(path: str) -> float:
            above = [x for other, (x, _) in places.items() if path in imports[other]]
            return sum(above) / len(above) if above else COLUMNS * BOX_WIDTH / 2

        row.sort(key=wanted)
        for start in range(0, len(row), COLUMNS):
            part = row[start : start + COLUMNS]
            left = MARGIN + GAP_X + (COLUMNS - len(part)) * (BOX_WIDTH + GAP_X) / 2
            for column, path in enumerate(part):
                places[path] = (left + column * (BOX_WIDTH + GAP_X), y)
            y += BOX_HEIGHT + GAP_Y
    return places


def _box(component: Component, x: float, y: float) -> list[str]:
    lines = _wrapped(component.purpose, 36, 2)
    size = f"  {component.modules} modules" if component.name.endswith("/") else ""
    texts = [
        f'<text x="{x + 7:g}" y="{y + 26 + 11 * number:g}" font-size="9" fill="#444">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return [
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" '
        f'fill="{FILLS[component.package]}" stroke="{STROKES[component.package]}"/>',
        f'<text x="{x + 7:g}" y="{y + 14:g}" font-size="12" font-weight="bold">{escape(component.name)}'
        f'<tspan font-size="9" font-weight="normal" fill="#666">{size}</tspan></text>',
        *texts,
    ]


def _arrow(source: tuple[float, float], target: tuple[float, float], colour: str) -> str:
    x1, y1 = source[0] + BOX_WIDTH / 2, source[1] + BOX_HEIGHT
    x2, y2 = target[0] + BOX_WIDTH / 2, target[1]
    bend = min(60, (y2 - y1) / 2 + 8)
    return (
        f'<path d="M{x1:g} {y1:g} C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2 - 5:g} '
        f'l-3 -1 l3 6 l3 -6 l-3 1" fill="none" stroke="{colour}" stroke-width="1" opacity="0.55"/>'
    )


def _wrapped(text: str, width: int, most: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][: width - 2] + " …"]
    return lines


def _imports_from(package: str, other: str, imports: Imports) -> bool:
    return package != other and any(
        target.startswith(f"{other}/")
        for component, targets in imports.items()
        if component.startswith(f"{package}/")
        for target in targets
    )


def _room_path(path: Path) -> str:
    package, *parts = path.relative_to(ROOT).parts
    return f"{package}/{parts[0]}" if len(parts) == 1 else f"{package}/{parts[0]}/"


def _component(path: str, members: Sequence[Path]) -> Component:
    package, name = path.split("/", 1)
    face = ROOT / path / "__init__.py" if path.endswith("/") else ROOT / path
    purpose = ast.get_docstring(ast.parse(face.read_text(encoding="utf-8"))) or ""
    modules = sum(member.name != "__init__.py" for member in members)
    return Component(package, name, purpose.split("\n\n")[0].replace("\n", " "), modules)


def _module_name(package: str, path: Path) -> str:
    parts = path.relative_to(ROOT / package).with_suffix("").parts
    return ".".join([PACKAGES[package], *(part for part in parts if part != "__init__")])


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names of everything imported anywhere in a module, except for type checking only."""
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is out of date")
    given = parser.parse_args()
    drawing = svg()
    if given.check:
        return int(not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != drawing)
    PICTURE.write_text(drawing, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
