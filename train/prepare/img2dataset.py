"""Download the photos of a prepared folder with img2dataset, an external program, and count the results.

img2dataset (https://github.com/rom1504/img2dataset, read at 1.47.0) downloads a list in shards. It
writes `NNNNN_stats.json` when a shard is done, and skips such shards when it runs again. It takes
every .json in its folder for one of these, so no other may be put there.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.errors import DataError
from minigpt4.core.storage.locks import locked
from minigpt4.train.prepare.choose import Prepared

PROGRAM = "img2dataset"

THREADS = 64
"""Simultaneous connections per process."""

FEW_PAIRS, SMALL_SHARD, LARGE_SHARD = 200_000, 1_000, 10_000
"""Below FEW_PAIRS the shards are small, so that several processes have something to do."""

PHOTO_BYTES = 32_500
"""Size of a photo at 224 pixels: the mean of 84 downloaded with `command`."""

GRACE_S = 20.0
"""Time for PROGRAM to exit after an interrupt before it is killed."""

POOR = 0.5
"""A shard with less than this fraction of the usual success rate was probably downloaded while offline."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """The download of one list's sampled `pairs` into shards."""

    name: str
    pairs_file: Path
    folder: Path
    pairs: int
    image_size: int
    original_size: bool
    processes: int

    @property
    def shard_pairs(self) -> int:
        """Pairs per shard; a function of `pairs`, as PROGRAM resumes only with the same number."""
        return SMALL_SHARD if self.pairs < FEW_PAIRS else LARGE_SHARD

    @property
    def shards(self) -> int:
        """The number of shards."""
        return math.ceil(self.pairs / self.shard_pairs)

    @property
    def disk(self) -> int:
        """Approximate bytes if every link is alive; photos in their original size take more."""
        return int(self.pairs * PHOTO_BYTES * (self.image_size / 224) ** 2)

    @property
    def command(self) -> list[str]:
        """PROGRAM with its arguments.

        None of its resize modes squashes. The default, `border`, pads to a square with white bars (as
        the released scripts did), and `center_crop` cuts; `keep_ratio` scales the shorter side to
        `image_size` and leaves the rest to our own preprocessing. For 84 photos then squashed to 224
        pixels, the mean difference to squashing the original was 64.6 grey levels for `border`, 33.3
        for `center_crop`, 1.9 for `keep_ratio` with area averaging (2.2 to 2.7 with its other
        filters) and 0.02 for the untouched file.
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
    """The state of a download.

    `tried` pairs of `done` shards yielded `photos`; `failures` counts the others by reason. `poor` are
    the shards that failed far more often than the rest.
    """

    done: int
    tried: int
    photos: int
    failures: Counter[str]
    poor: tuple[str, ...]

    @property
    def lost(self) -> int:
        """Pairs that yielded no photo."""
        return self.tried - self.photos


def downloads(prepared: Prepared, processes: int) -> list[Download]:
    """The downloads of a prepared folder, one per list."""
    return [
        Download(
            name=sample.name,
            pairs_file=prepared.list_of(sample),
            folder=prepared.shards_of(sample),
            pairs=sample.pairs,
            image_size=prepared.image_size,
            original_size=prepared.original_size,
            processes=processes,
        )
        for sample in prepared.shares
    ]


def check_program() -> None:
    """Raise DataError if PROGRAM is not installed."""
    if shutil.which(PROGRAM) is None:
        raise DataError(
            f"The program {PROGRAM} is not on the PATH; install it in an environment of its own (it needs "
            f"Python 3.12 or older), for example with 'uv tool install --python 3.12 {PROGRAM}'."
        )


def fetch(download: Download) -> None:
    """Run PROGRAM on the missing shards of a download; its output goes to stderr.

    Raises DataError if it fails or skips shards, or if it is already running there.
    """
    if fetched(download).done == download.shards:
        return
    check_program()
    with locked(download.folder, wait=False) as is_ours:
        if not is_ours:
            raise DataError(f"Another process is fetching {download.folder}; wait for it, or stop it.")
        _run(download)


def _run(download: Download) -> None:
    # In its own session, so that an interrupt reaches it only once, from `_stop`, and it can clean up.
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
    # It exits with 0 even if it has given up on shards.
    missing = download.shards - fetched(download).done
    if code or missing:
        what = f"ended with code {code}" if code else f"left {missing} of {download.shards} shards out"
        raise DataError(
            f"{PROGRAM} {what} for '{download.name}'; its output is above. Run the same command again "
            "to resume."
        )


def fetched(download: Download) -> Fetched:
    """The state of a download, from the statistics that PROGRAM writes for each shard."""
    success: dict[str, float] = {}
    tried = photos = 0
    failures: Counter[str] = Counter()
    for path in sorted(download.folder.glob("*_stats.json")):
        try:
            stats = json.loads(path.read_text(encoding="utf-8"))
            count, successes = int(stats["count"]), int(stats["successes"])
            for text, times in stats["status_dict"].items():
                failures[_reason(text)] += int(times)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is not a statistics file of {PROGRAM} ({error}); delete it to fetch its shard again."
            ) from error
        tried += count
        photos += successes
        success[path.name.removesuffix("_stats.json")] = successes / count if count else 1.0
    del failures["success"]
    usual = photos / tried if tried else 0.0
    poor = tuple(name for name, rate in success.items() if rate < POOR * usual)
    return Fetched(done=len(success), tried=tried, photos=photos, failures=failures, poor=poor)


def _reason(text: str) -> str:
    """The reason of a failure, without the parts that differ between hosts."""
    text = text.removeprefix("<urlopen error ").removesuffix(">").strip()
    text = re.sub(r"^\[(?:Errno -?\d+|SSL: [A-Z_]+)\]\s*", "", text)
    text = re.sub(r"\s*\(_ssl\.c:\d+\)$", "", text)
    for known in ("certificate verify failed", "Name or service not known", "timed out"):
        if known in text:
            return known
    return text[:80] or "no reason given"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt PROGRAM, then kill the rest of its session."""
    process.send_signal(signal.SIGINT)
    try:
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(GRACE_S)
    finally:
        # The session has only processes that PROGRAM started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
