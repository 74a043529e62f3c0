"""How costs grow: with turns, pictures, prompt length, saved conversations, threads and training processes.

    python benchmarks/scaling.py [--only turns pictures prompt history threads training]
        [--pictures 1 10 100] [--conversations 10000 100000] [--photos DATA] [--svg FILE] [--json FILE]

Needs the bundle `mini`; `training` needs photos with captions (`--photos`). Each panel is one experiment,
each point a median of its repeats:

- turns: milliseconds to the first token of turn n, about one picture, llama.cpp.
- pictures: pictures per second of `minigpt4 caption` for n new pictures, start-up included.
- prompt: milliseconds to the first token after a prompt of n tokens, nothing cached.
- history: milliseconds for the first page of n conversations, and for a search in them.
- threads: tokens per second of a prompt and of an answer, with one thread and with all.
- training: photos per second of `minigpt4 train` with 1, 2 and 4 processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from pathlib import Path

from PIL import Image

from minigpt4.core.cores import usable_cores
from minigpt4.core.engine import Engine
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.prompt import Assistant, Message, SmolLM2, User
from minigpt4.core.storage.paths import HOME_VARIABLE, data_home
from minigpt4.core.types import ResolvedSampling, Sampling
from minigpt4.tui.history.store import FILE_NAME, ConversationInfo, Store, StoredMessage, WholeConversation

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "minigpt4")
PHOTO = Path(__file__).parent.parent / "examples" / "chelsea.png"
REPEATS = 3
TURNS = 40
ANSWER = 8
"""Tokens of an answer where only the first matters."""
PROMPTS = (64, 250, 500, 1000, 1900)
PROCESSES = (1, 2, 4)
TRAINING_STEPS = 12

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """One experiment: its lines of points (x, y)."""

    title: str
    x: str
    y: str
    lines: dict[str, list[Point]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--pictures", nargs="+", type=int, default=[1, 10, 100])
    parser.add_argument("--conversations", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--photos", type=Path, help="photos with captions, for `training`")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if "training" in options.only and options.photos is None:
        options.only.remove("training")
    panels = []
    for name in options.only:
        panels.append(EXPERIMENTS[name](options))
        print(table(panels[-1]), flush=True)
    if options.svg is not None:
        options.svg.write_text(picture(panels), encoding="utf-8")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(panel) for panel in panels], indent=1), encoding="utf-8")


# -- experiments ------------------------------------------------------------------------------------


def turns(options: argparse.Namespace) -> Panel:
    """The first token of every turn of one conversation, and the same without its KV cache."""
    lines: dict[str, list[Point]] = {"first token": [], "without the KV cache": []}
    with Engine.load("mini", backend="llamacpp") as engine:
        engine.template = SmolLM2()  # as other models read all turns; mini reads each question by itself
        conversation: list[Message] = []
        picture = [engine.look(PHOTO)]
        for turn in range(1, TURNS + 1):
            question = f"Question {turn}: what is in the corner?"
            conversation.append(User(question, picture if turn == 1 else ()))
            seconds, text = first_token(engine, conversation)
            lines["first token"].append((turn, 1000 * seconds))
            if turn in (1, 2) or turn % 10 == 0:
                engine.language.reset()
                lines["without the KV cache"].append((turn, 1000 * first_token(engine, conversation)[0]))
            conversation.append(Assistant(text))
    return Panel("Turn n of a conversation", "turn", "ms to the first token", lines)


def first_token(engine: Engine, conversation: Sequence[Message]) -> tuple[float, str]:
    """Seconds to the first token, and a short answer's text."""
    start = time.perf_counter()
    pieces = iter(engine.reply(conversation, Sampling(max_tokens=ANSWER, temperature=0.0)))
    text = next(pieces).text
    seconds = time.perf_counter() - start
    return seconds, text + "".join(piece.text for piece in pieces)


def pictures(options: argparse.Namespace) -> Panel:
    """`minigpt4 caption` over folders of pictures that no cache knows."""
    points: list[Point] = []
    for count in options.pictures:
        with tempfile.TemporaryDirectory() as folder:
            photos, home = Path(folder) / "photos", Path(folder) / "home"
            photos.mkdir()
            new_photos(photos, count)
            environment = home_with_mini(home)
            start = time.perf_counter()
            command = [PROGRAM, "caption", str(photos), "--output", f"{folder}/captions.jsonl"]
            subprocess.run(command, check=True, capture_output=True, env=environment)
            points.append((count, count / (time.perf_counter() - start)))
    return Panel("Captions of new pictures", "pictures", "pictures a second", {"minigpt4 caption": points})


def new_photos(folder: Path, count: int) -> None:
    """Write `count` different crops of the example photo."""
    photo = Image.open(PHOTO).convert("RGB")
    for number in range(count):
        left, top = number % 40, number // 40
        photo.crop((left, top, photo.width - 40 + left, photo.height - 40 + top)).save(
            folder / f"{number:04}.jpg", quality=90
        )


def home_with_mini(home: Path) -> dict[str, str]:
    """The environment of a program with an empty cache, and mini's files."""
    (home / "data").mkdir(parents=True)
    (home / "data" / "bundles").symlink_to(data_home() / "bundles")
    return {**os.environ, HOME_VARIABLE: str(home)}


def prompt(options: argparse.Namespace) -> Panel:
    """Prefill of prompts of several lengths, the KV cache empty."""
    points: list[Point] = []
    with Engine.load("mini", backend="llamacpp") as engine:
        for length in PROMPTS:
            seconds = repeated(partial(prefill, engine.language, length))
            points.append((length, 1000 * seconds))
    return Panel("Prompt of n tokens", "tokens", "ms to the first token", {"nothing cached": points})


def prefill(model: LanguageModel, length: int) -> float:
    """Seconds to the first token after a prompt of `length` tokens."""
    model.reset()
    start = time.perf_counter()
    model.logits([300 + place % 5000 for place in range(length)])
    return time.perf_counter() - start


def history(options: argparse.Namespace) -> Panel:
    """The sidebar's first page and a search, in databases of conversations of four messages."""
    lines: dict[str, list[Point]] = {"first page": [], "search for a rare word": []}
    for count in options.conversations:
        with tempfile.TemporaryDirectory() as folder:
            store = Store.open(Path(folder) / FILE_NAME)
            store.add_whole(conversation(number) for number in range(count))
            page = repeated(partial(timed, partial(store.conversations, 50)))
            search = repeated(partial(timed, partial(store.search, "q00004z", 50)))
            lines["first page"].append((count, 1000 * page))
            lines["search for a rare word"].append((count, 1000 * search))
            store.close()
    return Panel("Saved conversations", "conversations", "ms", lines)


def conversation(number: int) -> WholeConversation:
    """One of many; a word such as `q00004z` occurs only in its messages."""
    when = 1.7e9 + number
    messages: list[StoredMessage] = []
    for place in range(4):
        role = "assistant" if place % 2 else "user"
        text = "A grey boat, and a gull above it." if place % 2 else f"Question q{number:05}z about it?"
        parent = messages[-1].id if messages else None
        messages.append(
            StoredMessage(f"m{number:07}-{place}", parent, role, text, "done", (), when, {"bundle": "mini"})  # type: ignore[arg-type]
        )
    info = ConversationInfo(f"c{number:07}", f"Question {number}", when, when, False, len(messages))
    return WholeConversation(info, False, {}, messages[-1].id, tuple(messages))


def threads(options: argparse.Namespace) -> Panel:
    """Prefill and decoding with one thread and with all."""
    lines: dict[str, list[Point]] = {"prompt": [], "answer": []}
    for count in sorted({1, usable_cores()}):
        with Engine.load("mini", backend="llamacpp", threads=count) as engine:
            model = engine.language
            lines["prompt"].append((count, 512 / repeated(partial(prefill, model, 512))))
            lines["answer"].append((count, 1 / repeated(partial(token_seconds, model))))
    return Panel("Threads", "threads", "tokens a second", lines)


def token_seconds(model: LanguageModel) -> float:
    """The median time of a token after a short prompt."""
    model.reset()
    stamps = []
    for _ in model.generate([300, 301, 302], ResolvedSampling(max_tokens=40).greedy()):
        stamps.append(time.perf_counter())
    return statistics.median(after - before for before, after in itertools.pairwise(stamps))


def training(options: argparse.Namespace) -> Panel:
    """Photos per second of `minigpt4 train` with mini, features cached, the first steps left out."""
    points: list[Point] = []
    for count in PROCESSES:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            command = [PROGRAM, "train", "--stage", "1", "--data", str(options.photos), "--output", str(run)]
            settings = [f"steps={TRAINING_STEPS}", "validate_every=1000", "sample_every=0", "sample_photos=0"]
            for setting in settings:
                command += ["--set", setting]
            subprocess.run([*command, "--devices", str(count)], check=True, capture_output=True)
            rows = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
            rates = [row["samples_per_s"] for row in rows if "samples_per_s" in row]
            points.append((count, statistics.median(rates[len(rates) // 2 :])))
    return Panel("Training mini", "processes", "photos a second", {"stage 1, features cached": points})


EXPERIMENTS: dict[str, Callable[[argparse.Namespace], Panel]] = {
    "turns": turns,
    "pictures": pictures,
    "prompt": prompt,
    "history": history,
    "threads": threads,
    "training": training,
}


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def repeated(seconds: Callable[[], float]) -> float:
    """The median of a few measurements, after one that is not counted."""
    seconds()
    return statistics.median(seconds() for _ in range(REPEATS))


# -- output -----------------------------------------------------------------------------------------

WIDTH, HEIGHT, MARGIN, COLUMNS = 380, 240, 48, 3
COLORS = ("#2457a6", "#c2410c")


def table(panel: Panel) -> str:
    """The panel as Markdown."""
    rows = [f"\n| {panel.x} | {', '.join(f'{name}: {panel.y}' for name in panel.lines)} |", "| ---: | ---: |"]
    for x in sorted({x for points in panel.lines.values() for x, _ in points}):
        found = [dict(points).get(x) for points in panel.lines.values()]
        rows.append(f"| {x:g} | {', '.join('' if y is None else f'{y:.3g}' for y in found)} |")
    return f"\n{panel.title}\n" + "\n".join(rows)


def picture(panels: Sequence[Panel]) -> str:
    """All panels as one SVG, three in a row; both axes of each begin at 0."""
    rows = -(-len(panels) // COLUMNS)
    width, height = WIDTH * min(COLUMNS, len(panels)), HEIGHT * rows
    drawn = []
    for place, panel in enumerate(panels):
        left, top = place % COLUMNS * WIDTH, place // COLUMNS * HEIGHT
        drawn.append(f'<g transform="translate({left} {top})">{"".join(axes(panel))}</g>')
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11" fill="#333">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def axes(panel: Panel) -> Iterator[str]:
    """One panel: title, labels, a grid, and a line with dots for each series."""
    points = [point for line in panel.lines.values() for point in line]
    most_x, most_y = max(x for x, _ in points), 1.1 * max(y for _, y in points)

    def at(x: float, y: float) -> tuple[float, float]:
        across = MARGIN + x / most_x * (WIDTH - MARGIN - 20)
        return across, HEIGHT - MARGIN - y / most_y * (HEIGHT - 2 * MARGIN)

    yield f'<text x="{WIDTH / 2}" y="20" text-anchor="middle" font-size="14">{escape(panel.title)}</text>'
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(panel.x)}</text>'
    yield f'<text x="{MARGIN - 40}" y="{MARGIN - 10}">{escape(panel.y)}</text>'
    for part in range(5):
        across, up = at(most_x, most_y * part / 4)
        yield f'<path d="M{MARGIN} {up:.1f}H{across:.1f}" stroke="#ddd"/>'
        yield f'<text x="{MARGIN - 6}" y="{up + 4:.1f}" text-anchor="end">{most_y * part / 4:.3g}</text>'
    for x in sorted({0.0, most_x} | {x for x, _ in points if x > most_x / 5}):
        across, up = at(x, 0)
        yield (
            f'<text x="{across:.1f}" y="{up + 15:.1f}" text-anchor="middle">{x:g}</text>'
            if (len(points) < 12 or x in (0, most_x))
            else ""
        )
    for place, (name, line) in enumerate(panel.lines.items()):
        color = COLORS[place % len(COLORS)]
        path = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in line)
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
        for point in line:
            across, up = at(*point)
            yield f'<circle cx="{across:.1f}" cy="{up:.1f}" r="2.5" fill="{color}"/>'
        label = f'<text x="{WIDTH - 20}" y="{36 + 14 * place}" text-anchor="end" fill="{color}">'
        yield f"{label}{escape(name)}</text>"


if __name__ == "__main__":
    main()
