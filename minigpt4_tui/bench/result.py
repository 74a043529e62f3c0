"""A benchmark result: as a table, as JSON, and compared with an earlier one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minigpt4.core.errors import DataError
from minigpt4.tui.bench.figures import Figure
from minigpt4.tui.bench.machine import Machine

FORMAT = "minigpt4 bench 1"


@dataclass(frozen=True)
class Result:
    """What a benchmark measured, with the bundle, options, versions and machine."""

    bundle: str
    choices: Mapping[str, str]
    """Backend, device, quantisation, threads."""

    versions: Mapping[str, str]
    machine: Machine
    figures: Sequence[Figure]
    limits: Mapping[str, float]
    """Limits by figure name, of the figures that have one."""

    def as_json(self) -> dict[str, Any]:
        """An object that `earlier_figures` reads."""
        return {
            "format": FORMAT,
            "bundle": self.bundle,
            **self.choices,
            "versions": dict(self.versions),
            "machine": asdict(self.machine),
            "figures": {
                figure.name: {
                    "unit": figure.unit,
                    "median": figure.median,
                    "low": figure.low,
                    "high": figure.high,
                    "runs": figure.runs,
                    "limit": self.limits.get(figure.name),
                }
                for figure in self.figures
            },
        }

    def share(self, figure: Figure) -> float | None:
        """The fraction of the machine's limit that is reached (1: all of it); None without a limit."""
        limit = self.limits.get(figure.name)
        if limit is None:
            return None
        return figure.median / limit if figure.is_rate else limit / figure.median

    def rows(self, earlier: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
        """The rows of a table: the header, then a row for each figure."""
        head = ("", "median", "spread", "limit", "of it")
        yield (*head, "against before") if earlier else head
        for figure in self.figures:
            limit, share = self.limits.get(figure.name), self.share(figure)
            row = (
                figure.name,
                shown(figure.median, figure.unit),
                f"{shown(figure.low, figure.unit)} to {shown(figure.high, figure.unit)}",
                "-" if limit is None else shown(limit, figure.unit),
                "-" if share is None else f"{share:.0%}",
            )
            if earlier:
                before = earlier.get(figure.name)
                yield (*row, "-" if before is None else compared(figure, before))
            else:
                yield row


def shown(value: float, unit: str) -> str:
    """A value with its unit."""
    match unit:
        case "bytes":
            return f"{value / 1e6:,.0f} MB"
        case "s" if value < 1:
            return f"{value * 1e3:.3g} ms"
        case "s":
            return f"{value:.2f} s"
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def compared(figure: Figure, before: float) -> str:
    """The figure's median divided by an earlier one, and whether that is better."""
    ratio = figure.median / before
    if f"{ratio:.2f}" == "1.00":
        return "1.00"
    return f"{ratio:.2f} ({'better' if (ratio > 1) == figure.is_rate else 'worse'})"


def earlier_figures(path: Path) -> dict[str, float]:
    """The medians of an earlier result by figure name; raises DataError."""
    way_out = "give a file that `minigpt4 bench --json > FILE` has written."
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror or error}); {way_out}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is no JSON text; {way_out}") from error
    figures = read.get("figures") if isinstance(read, dict) and read.get("format") == FORMAT else None
    if not isinstance(figures, dict) or not figures:
        raise DataError(f"'{path}' is not a result of this program's bench; {way_out}")
    medians = {}
    for name, figure in figures.items():
        median = figure.get("median") if isinstance(figure, dict) else None
        if not isinstance(median, int | float) or isinstance(median, bool) or not 0 < median < float("inf"):
            raise DataError(f"'{path}' has no valid value for '{name}'; {way_out}")
        medians[name] = float(median)
    return medians


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    return (
        f"{machine.processor}: {machine.bandwidth / 1e9:.1f} GB/s copied, {machine.arithmetic / 1e9:,.0f} "
        "GFLOP/s in float32"
    )
