"""Sample photos to download from lists of URLs that are far larger than memory.

A prepared folder holds, for each list, `NAME.jsonl` with the sampled pairs in random order and `NAME/`
for the shards downloaded from it; `prepared.json` records how they were sampled. Training finds the
sources of recipe `stage1` in it by name.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from minigpt4.core.errors import DataError, UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.train.prepare.blip_list import ListIndex, Pair, count_pairs, pairs_at
from minigpt4.train.recipe_file import read_recipe, recipe_path

RELEASED = {"laion_synthetic_filtered_large": "laion", "ccs_synthetic_filtered_large": "cc_sbu"}
"""BLIP's lists (https://github.com/salesforce/BLIP), and the names of their sources in recipe `stage1`."""

RECORD = "prepared.json"

PILE = 1 << 16
"""Pairs shuffled at a time."""

Report = Callable[[str, int, int], None]
"""Called with the current step and list, its bytes done and its bytes in all."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to sample: `pairs` in all, from `lists`, mixed by `ratio`.

    Without a ratio, by the weights of recipe `stage1` if it has all the lists, else by the lists'
    lengths. Photos are downloaded for towers of `image_size` pixels a side, or in full (`original_size`).
    """

    lists: tuple[Path, ...]
    pairs: int
    seed: int
    ratio: tuple[float, ...] | None
    image_size: int
    original_size: bool


@dataclass(frozen=True, kw_only=True)
class ListSample:
    """The sample of one list: `pairs` of its `rows`; `size` is the list's, in bytes."""

    name: str
    file: str
    size: int
    rows: int
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A folder with its sampled lists written."""

    folder: Path
    seed: int
    image_size: int
    original_size: bool
    shares: tuple[ListSample, ...]

    @property
    def pairs(self) -> int:
        """The number of sampled pairs."""
        return sum(sample.pairs for sample in self.shares)

    def list_of(self, sample: ListSample) -> Path:
        """The sampled pairs of a list, one JSON object per line."""
        return self.folder / f"{sample.name}.jsonl"

    def shards_of(self, sample: ListSample) -> Path:
        """The folder of its shards."""
        return self.folder / sample.name


def prepare(folder: Path, choice: Choice, *, report: Report = lambda _doing, _done, _total: None) -> Prepared:
    """Sample and write the lists; a folder prepared with the same choice is not changed.

    Each list's rows are drawn uniformly by the seed, so the same lists give the same sample, and any
    prefix of the written list is a fair sample of it. Raises UsageError for an impossible choice or a
    folder prepared with another one, DataError for a list that cannot be read.
    """
    names = [source_name(path) for path in choice.lists]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two of the lists would both be called '{twice}'; rename one of the files.")
    kept = read_prepared(folder)
    if kept is not None:
        _check_same(kept, choice, names)
        return kept
    indexes = [_counted(path, name, report) for path, name in zip(choice.lists, names, strict=True)]
    pairs = _pairs_of_lists(choice, names, [index.rows for index in indexes])
    samples = tuple(
        ListSample(name=name, file=path.name, size=path.stat().st_size, rows=index.rows, pairs=count)
        for name, path, index, count in zip(names, choice.lists, indexes, pairs, strict=True)
    )
    prepared = Prepared(
        folder=folder,
        seed=choice.seed,
        image_size=choice.image_size,
        original_size=choice.original_size,
        shares=samples,
    )
    for sample, path, index in zip(samples, choice.lists, indexes, strict=True):
        _write_list(prepared, sample, path, index, report)
    _write_record(prepared)
    return prepared


def read_prepared(folder: Path) -> Prepared | None:
    """How a folder was prepared; None if it was not, or not completely."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        samples = tuple(ListSample(**sample) for sample in record.pop("shares"))
        prepared = Prepared(folder=folder, shares=samples, **record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it to sample again.") from error
    return prepared if all(prepared.list_of(sample).is_file() for sample in samples) else None


def source_name(path: Path) -> str:
    """The name of a list's photos: as in recipe `stage1` for a released list, else the file's."""
    plain = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.")
    return RELEASED.get(path.stem, plain or "photos")


def chosen_rows(rows: int, wanted: int, rng: Random) -> Iterator[int]:
    """`wanted` of the numbers below `rows`, ascending and uniformly drawn, in constant memory.

    Selection sampling: Fan, Muller and Rezucha 1962; Knuth, The Art of Computer Programming,
    volume 2, section 3.4.2, algorithm S.
    """
    draw = rng.random
    for row in range(rows):
        if draw() * (rows - row) < wanted:
            yield row
            wanted -= 1
            if not wanted:
                return


def split_by(weights: Sequence[float], total: int) -> list[int]:
    """Split `total` into integers proportional to the weights, to within one (largest remainders)."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda place: parts[place] - exact[place])
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts


def _counted(path: Path, name: str, report: Report) -> ListIndex:
    return count_pairs(path, progress=lambda end: report(f"counting {name}", end, path.stat().st_size))


def _pairs_of_lists(choice: Choice, names: Sequence[str], rows: Sequence[int]) -> list[int]:
    """The number of pairs from each list; raises UsageError if one has too few."""
    pairs = split_by(_weights(choice, names, rows), choice.pairs)
    for path, count, known in zip(choice.lists, pairs, rows, strict=True):
        if not count:
            raise UsageError(
                f"Of {choice.pairs} pairs none would come from {path}; choose more with -n, or leave it out."
            )
        if count > known:
            raise UsageError(
                f"{count} of the pairs are to come from {path}, which has {known}; choose fewer with -n, or "
                "mix them otherwise with --ratio."
            )
    return pairs


def _weights(choice: Choice, names: Sequence[str], rows: Sequence[int]) -> Sequence[float]:
    if choice.ratio is not None:
        if len(choice.ratio) != len(names):
            raise UsageError(
                f"--ratio has {len(choice.ratio)} numbers for {len(names)} lists; give one a list, in order."
            )
        return choice.ratio
    known = {source.name: source.weight for source in read_recipe(recipe_path("stage1")).source}
    return [known[name] for name in names] if all(name in known for name in names) else rows


def _check_same(kept: Prepared, choice: Choice, names: Sequence[str]) -> None:
    """Raise UsageError with the differences if a folder was prepared with another choice."""
    was = {sample.name: sample for sample in kept.shares}
    differences = [
        f"{what} {before} and not {now}"
        for what, before, now in (
            ("seed", kept.seed, choice.seed),
            ("-n", kept.pairs, choice.pairs),
            ("lists", ", ".join(was), ", ".join(names)),
            ("image size", kept.image_size, choice.image_size),
            ("original size", kept.original_size, choice.original_size),
        )
        if before != now
    ]
    if not differences:
        pairs = split_by(_weights(choice, names, [was[name].rows for name in names]), choice.pairs)
        differences += [
            f"{was[name].pairs} pairs and not {count} from {name}"
            for name, count in zip(names, pairs, strict=True)
            if was[name].pairs != count
        ]
        # A list that has been deleted since is not needed again.
        differences += [
            f"another list {path}"
            for name, path in zip(names, choice.lists, strict=True)
            if path.is_file() and path.stat().st_size != was[name].size
        ]
    if differences:
        raise UsageError(
            f"{kept.folder} was prepared differently: {'; '.join(differences)}. Choose another folder with "
            "--output, or delete this one."
        )


def _write_list(prepared: Prepared, sample: ListSample, path: Path, index: ListIndex, report: Report) -> None:
    """Write the sampled pairs in random order: dealt to piles on disk, each of which is then shuffled."""
    rows = chosen_rows(index.rows, sample.pairs, Random(f"{prepared.seed}/{sample.name}/choice"))
    pairs = pairs_at(
        path, index, rows, progress=lambda end: report(f"choosing from {sample.name}", end, sample.size)
    )
    target, rng = prepared.list_of(sample), Random(f"{prepared.seed}/{sample.name}/order")
    prepared.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=prepared.folder, prefix=f".{sample.name}.") as scratch,
        replacing(target) as draft,
        draft.open("wb") as file,
    ):
        for pile in _dealt(pairs, math.ceil(sample.pairs / PILE), Path(scratch), rng):
            lines = pile.read_bytes().splitlines(keepends=True)
            # Not rng.shuffle: only random() is guaranteed to be the same in every version of Python.
            order = [rng.random() for _ in lines]
            file.writelines(lines[place] for place in sorted(range(len(lines)), key=order.__getitem__))
            pile.unlink()
    report(f"choosing from {sample.name}", sample.size, sample.size)


def _dealt(pairs: Iterable[Pair], piles: int, scratch: Path, rng: Random) -> list[Path]:
    paths = [scratch / str(place) for place in range(piles)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for pair in pairs:
            line = json.dumps(asdict(pair), ensure_ascii=False).encode("utf-8") + b"\n"
            files[int(rng.random() * piles)].write(line)
    return paths


def _write_record(prepared: Prepared) -> None:
    record = {key: value for key, value in asdict(prepared).items() if key != "folder"}
    with replacing(prepared.folder / RECORD) as draft:
        draft.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
