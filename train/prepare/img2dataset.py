"""Fetching the photos of a prepared folder with img2dataset, a program of its own, and what came of it.

img2dataset (https://github.com/rom1504/img2dataset, read at 1.47.0) fetches a list in shards. It
writes `NNNNN_stats.json` when a shard is done, and passes over such shards when it is run again. It
takes every .json in its folder for one of these, so nothing of ours lies there.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt4.core.errors import DataError
from minigpt4.core.locks import locked
from minigpt4.train.prepare.choose import Prepared

PROGRAM = "img2dataset"

THREADS = 64
"""Connections at once, a process."""

FEW_PAIRS, SMALL_SHARD, LARGE_SHARD = 200_000, 1_000, 10_000
"""Below so many pairs the shards are small, so that several processes have something to do."""

PHOTO_BYTES = 32_500
"""What a photo takes at 224 pixels: the mean of 84, fetched by PROGRAM as `command` asks."""

GRACE_S = 20.0
"""How long PROGRAM has to end after an interrupt before it is killed."""

POOR = 0.5
"""A shard with less than this share of the usual success was probably fetched without a network."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """The fetching of one share: `pairs` of a list into shards."""

    name: str
    pairs_file: Path
    folder: Path
    pairs: int
    image_size: int
    original_size: bool
    processes: int

    @property
    def shard_pairs(self) -> int:
        """Pairs of a shard; a function of the pairs, since PROGRAM goes on only with the same number."""
        return SMALL_SHARD if self.pairs < FEW_PAIRS else LARGE_SHARD

    @property
    def shards(self) -> int:
        """How many shards there will be."""
        return math.ceil(self.pairs / self.shard_pairs)

    @property
    def disk(self) -> int:
        """About what the photos take if every link is alive, in bytes; in their own size they take more."""
        return int(self.pairs * PHOTO_BYTES * (self.image_size / 224) ** 2)

    @property
    def command(self) -> list[str]:
        """PROGRAM with its arguments.

        No resize mode of it squashes. Its default, `border`, puts white bars into the square (so the
        released scripts did), and `center_crop` cuts; `keep_ratio` brings the shorter side to
        `image_size` and leaves the rest to our own squash. Of 84 photos squashed to 224 pixels
        afterwards, the mean difference to squashing the original was 64.6 grey levels for
        `border`, 33.3 for `center_crop`, 1.9 for `keep_ratio` with area averaging (2.2 to 2.7 with
        its other filters) and 0.02 for the untouched file.
        """
        resize = (
            ["--resize_mode", "no", "--skip_reencode", "True"]
            if self.original_size
            else ["--resize_mode", "keep_ratio", "--resize_only_if_bigger", "True"]
        )
        return [
            *(PROGRAM, "--url_list", str(self.pairs_file.absolute()), "--input_format", "jsonl"),
            *("--url_col", "url", "--caption_col", "caption"),
            *("--output_format", "webdataset", "--output_folder", str(self.folder.absolute())),
            *("--image_size", str(self.image_size), *resize),
            *("--number_sample_per_shard", str(self.shard_pairs)),
            *("--processes_count", str(self.processes), "--thread_count", str(THREADS)),
            *("--incremental_mode", "incremental"),
        ]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What has come of a download so far.

    `tried` pairs of `done` shards gave `photos`; `failures` counts the others by reason. `poor` are
    the shards that failed far more often than the rest.
    """

    done: int
    tried: int
    photos: int
    failures: Counter[str]
    poor: tuple[str, ...]

    @property
    def lost(self) -> int:
        """Pairs that gave no photo."""
        return self.tried - self.photos


def downloads(prepared: Prepared, processes: int) -> list[Download]:
    """What is to be fetched for a prepared folder, a download a list."""
    return [
        Download(
            name=share.name,
            pairs_file=prepared.list_of(share),
            folder=prepared.shards_of(share),
            pairs=share.pairs,
            image_size=prepared.image_size,
            original_size=prepared.original_size,
            processes=processes,
        )
        for share in prepared.shares
    ]


def check_program() -> None:
    """Raise DataError where PROGRAM is not installed."""
    if shutil.which(PROGRAM) is None:
        raise DataError(
            f"There is no program {PROGRAM} on the PATH; install it in an environment of its own (it needs "
            f"Python 3.12 or older), for example with 'uv tool install --python 3.12 {PROGRAM}'."
        )


def fetch(download: Download) -> None:
    """Run PROGRAM on what is still missing of a download; its own words go to stderr.

    Raises DataError where it fails or leaves shards out, and where it is at work there already.
    """
    if fetched(download).done == download.shards:
        return
    check_program()
    with locked(download.folder, wait=False) as is_ours:
        if not is_ours:
            raise DataError(f"Another process is fetching {download.folder}; wait for it, or stop it.")
        _run(download)


def _run(download: Download) -> None:
    # In a session of its own, so that an interrupt reaches it once, from here, and it may clean up.
    process = subprocess.Popen(
        download.command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
        start_new_session=True,
    )
    try:
        code = process.wait()
    except BaseException:
        _stop(process)
        raise
    # It ends with 0 even where it has given up on shards.
    missing = download.shards - fetched(download).done
    if code or missing:
        what = f"ended with code {code}" if code else f"left {missing} of {download.shards} shards out"
        raise DataError(
            f"{PROGRAM} {what} for '{download.name}'; its own words stand above. Run the same command again "
            "to go on from there."
        )


def fetched(download: Download) -> Fetched:
    """What PROGRAM says has come so far, from the statistics of its shards."""
    shares: dict[str, float] = {}
    tried = photos = 0
    failures: Counter[str] = Counter()
    for name, stats in _statistics(download.folder):
        count, successes = int(stats["count"]), int(stats["successes"])
        tried += count
        photos += successes
        shares[name] = successes / count if count else 1.0
        for text, times in stats["status_dict"].items():
            failures[_reason(text)] += int(times)
    del failures["success"]
    usual = photos / tried if tried else 0.0
    poor = tuple(name for name, share in shares.items() if share < POOR * usual)
    return Fetched(done=len(shares), tried=tried, photos=photos, failures=failures, poor=poor)


def shell_line(download: Download) -> str:
    """The command as one types it."""
    return shlex.join(download.command)


def _statistics(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in sorted(folder.glob("*_stats.json")):
        try:
            stats = json.loads(path.read_text(encoding="utf-8"))
            int(stats["count"]), int(stats["successes"]), stats["status_dict"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is no statistics of {PROGRAM} ({error}); delete it, and its shard is fetched again."
            ) from error
        yield path.name.removesuffix("_stats.json"), stats


def _reason(text: str) -> str:
    """A failure without what differs from host to host."""
    text = text.removeprefix("<urlopen error ").removesuffix(">").strip()
    text = re.sub(r"^\[(?:Errno -?\d+|SSL: [A-Z_]+)\]\s*", "", text)
    text = re.sub(r"\s*\(_ssl\.c:\d+\)$", "", text)
    for known in ("certificate verify failed", "Name or service not known", "timed out"):
        if known in text:
            return known
    return text[:80] or "no reason given"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End PROGRAM and its own processes: politely first."""
    process.send_signal(signal.SIGINT)
    try:
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(GRACE_S)
    finally:
        # The session holds nothing but what PROGRAM started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
