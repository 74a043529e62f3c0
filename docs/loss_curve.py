"""Draw the loss curves of training runs, one panel a run, four in a row: the pictures in mini's card.

python docs/loss_curve.py RUN [RUN ...] --output core/bundles/MINI-loss.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 420, 260, 44
COLUMNS = 4
SMOOTHING = 0.95
"""Weight of the past in the running mean that is drawn over the single steps."""

Point = tuple[float, float]


def curves(run: Path) -> tuple[list[Point], list[Point]]:
    """(step, loss) of every training step and of every validation in the run's log."""
    steps: list[Point] = []
    validations: list[Point] = []
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "val_loss" in row:
            validations.append((row["step"], row["val_loss"]))
        elif "loss" in row:
            steps.append((row["step"], row["loss"]))
    return steps, validations


def smoothed(points: Sequence[Point]) -> list[Point]:
    """The exponential running mean, its start corrected for the missing past."""
    mean = weight = 0.0
    drawn: list[Point] = []
    for step, loss in points:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        drawn.append((step, mean / weight))
    return drawn


def panel(title: str, steps: Sequence[Point], validations: Sequence[Point], left: int) -> str:
    """One run as SVG: single steps pale, their running mean, validation as dots."""
    drawn = smoothed(steps)
    last = max(step for step, _ in steps)
    low = min(loss for _, loss in [*drawn, *validations])
    high = max(loss for _, loss in [*drawn, *validations])
    floor, ceiling = low - 0.05 * (high - low), high + 0.05 * (high - low)

    def x(step: float) -> float:
        return left + MARGIN + step / last * (WIDTH - MARGIN - 16)

    def y(loss: float) -> float:
        clipped = min(max(loss, floor), ceiling)
        return HEIGHT - MARGIN - (clipped - floor) / (ceiling - floor) * (HEIGHT - 2 * MARGIN)

    def line(points: Sequence[Point], style: str) -> str:
        path = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
        return f'<polyline points="{path}" fill="none" {style}/>'

    parts = [f'<text x="{x(last / 2):.0f}" y="24" text-anchor="middle" font-size="14">{escape(title)}</text>']
    for loss in [floor + (ceiling - floor) * part / 4 for part in range(5)]:
        parts.append(
            f'<path d="M{x(0):.1f} {y(loss):.1f}H{x(last):.1f}" stroke="#ddd"/>'
            f'<text x="{x(0) - 6:.1f}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>'
        )
    for step in (0, last // 2, last):
        parts.append(
            f'<text x="{x(step):.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{step:g}</text>'
        )
    parts.append(line(steps, 'stroke="#c9d6ea" stroke-width="0.7"'))
    parts.append(line(drawn, 'stroke="#2457a6" stroke-width="2"'))
    parts += [
        f'<circle cx="{x(step):.1f}" cy="{y(loss):.1f}" r="3.5" fill="#c2410c"/>'
        for step, loss in validations
    ]
    return "\n".join(parts)


def picture(runs: Sequence[Path]) -> str:
    """All runs as one SVG."""
    panels = []
    for place, run in enumerate(runs):
        row, column = divmod(place, COLUMNS)
        drawn = panel(run.name, *curves(run), left=column * WIDTH)
        panels.append(f'<g transform="translate(0 {row * HEIGHT})">{drawn}</g>')
    width, height = WIDTH * min(COLUMNS, len(runs)), HEIGHT * -(-len(runs) // COLUMNS)
    legend = (
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">step; loss per answer token: '
        '<tspan fill="#2457a6">training</tspan>, <tspan fill="#c2410c">validation</tspan></text>'
    )
    body = "\n".join([*panels, legend])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11" fill="#333">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def main() -> None:
    """Read the runs' logs and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.write_text(picture(arguments.runs), encoding="utf-8")


if __name__ == "__main__":
    main()
