"""Choose photos to fetch from lists of web addresses that are far longer than memory.

A folder that has been prepared holds `NAME.jsonl` for each list, its chosen pairs in random order,
`NAME/` for the shards that are fetched from it, and `prepared.json`, what was chosen how. Training
finds the sources of recipe `stage1` in it by name.
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

from minigpt4.core.atomic import replacing
from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.prepare.blip_list import ListIndex, Pair, count_pairs, pairs_at
from minigpt4.train.recipe_file import read_recipe, recipe_path

RELEASED = {"laion_synthetic_filtered_large": "laion", "ccs_synthetic_filtered_large": "cc_sbu"}
"""BLIP's lists (https://github.com/salesforce/BLIP), and what recipe `stage1` calls their photos."""

FACTS = "prepared.json"

PILE = 1 << 16
"""Pairs that are put in random order at once."""

Report = Callable[[str, int, int], None]
"""Told what is being done to which list, and how many bytes of it, of how many, are done."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be chosen: `pairs` in all, from `lists`, mixed as `ratio` says.

    Without a ratio the weights of recipe `stage1` are taken where it knows all the lists, and the
    lists' lengths where it does not. Photos are to be fetched for towers of `image_size` pixels a
    side, or as they are (`original_size`).
    """

    lists: tuple[Path, ...]
    pairs: int
    seed: int
    ratio: tuple[float, ...] | None
    image_size: int
    original_size: bool


@dataclass(frozen=True, kw_only=True)
class Share:
    """What was chosen from one list: `pairs` of its `rows`; `size` is the list's, in bytes."""

    name: str
    file: str
    size: int
    rows: int
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A folder with its lists written."""

    folder: Path
    seed: int
    image_size: int
    original_size: bool
    shares: tuple[Share, ...]

    @property
    def pairs(self) -> int:
        """How many were chosen in all."""
        return sum(share.pairs for share in self.shares)

    def list_of(self, share: Share) -> Path:
        """The chosen pairs of a share, one JSON object a line."""
        return self.folder / f"{share.name}.jsonl"

    def shards_of(self, share: Share) -> Path:
        """The folder of a share's shards."""
        return self.folder / share.name


def prepare(folder: Path, wish: Wish, *, report: Report = lambda _doing, _done, _total: None) -> Prepared:
    """Choose and write the lists; a folder that holds just this choice already is left as it is.

    Each list's rows are chosen uniformly by the seed, so the same lists give the same choice, and
    any first part of what is written is a fair sample of it. Raises UsageError for a wish that
    cannot be met or a folder that holds another choice, DataError for a list that cannot be read.
    """
    names = [source_name(path) for path in wish.lists]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two of the lists would both be called '{twice}'; rename one of the files.")
    kept = read_prepared(folder)
    if kept is not None:
        _check_same(kept, wish, names)
        return kept
    indexes = [_counted(path, name, report) for path, name in zip(wish.lists, names, strict=True)]
    pairs = _pairs_of_lists(wish, names, [index.rows for index in indexes])
    shares = tuple(
        Share(name=name, file=path.name, size=path.stat().st_size, rows=index.rows, pairs=count)
        for name, path, index, count in zip(names, wish.lists, indexes, pairs, strict=True)
    )
    prepared = Prepared(
        folder=folder,
        seed=wish.seed,
        image_size=wish.image_size,
        original_size=wish.original_size,
        shares=shares,
    )
    for share, path, index in zip(shares, wish.lists, indexes, strict=True):
        _write_list(prepared, share, path, index, report)
    _write_facts(prepared)
    return prepared


def read_prepared(folder: Path) -> Prepared | None:
    """What a folder was prepared with; None where it was not, or not to the end."""
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        shares = tuple(Share(**share) for share in facts.pop("shares"))
        prepared = Prepared(folder=folder, shares=shares, **facts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it to choose the pairs anew.") from error
    return prepared if all(prepared.list_of(share).is_file() for share in shares) else None


def source_name(path: Path) -> str:
    """What the photos of a list are called: as in recipe `stage1` for those released, else as the file."""
    plain = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.")
    return RELEASED.get(path.stem, plain or "photos")


def chosen_rows(rows: int, wanted: int, rng: Random) -> Iterator[int]:
    """`wanted` of the numbers below `rows`, rising; every choice is as likely, and none is remembered.

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
    """`total` in whole parts that are as the weights, to less than one (largest remainders)."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda place: parts[place] - exact[place])
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts


def _counted(path: Path, name: str, report: Report) -> ListIndex:
    return count_pairs(path, progress=lambda end: report(f"counting {name}", end, path.stat().st_size))


def _pairs_of_lists(wish: Wish, names: Sequence[str], rows: Sequence[int]) -> list[int]:
    """How many pairs come from each list; UsageError where one has too few."""
    pairs = split_by(_weights(wish, names, rows), wish.pairs)
    for path, count, known in zip(wish.lists, pairs, rows, strict=True):
        if not count:
            raise UsageError(
                f"Of {wish.pairs} pairs none would come from {path}; choose more with -n, or leave it out."
            )
        if count > known:
            raise UsageError(
                f"{count} of the pairs are to come from {path}, which has {known}; choose fewer with -n, or "
                "mix them otherwise with --ratio."
            )
    return pairs


def _weights(wish: Wish, names: Sequence[str], rows: Sequence[int]) -> Sequence[float]:
    if wish.ratio is not None:
        if len(wish.ratio) != len(names):
            raise UsageError(
                f"--ratio has {len(wish.ratio)} numbers for {len(names)} lists; give one a list, in order."
            )
        return wish.ratio
    known = {source.name: source.weight for source in read_recipe(recipe_path("stage1")).source}
    return [known[name] for name in names] if all(name in known for name in names) else rows


def _check_same(kept: Prepared, wish: Wish, names: Sequence[str]) -> None:
    """Raise UsageError saying in what a folder's choice differs from the wish."""
    was = {share.name: share for share in kept.shares}
    differences = [
        f"{what} {before} and not {now}"
        for what, before, now in (
            ("seed", kept.seed, wish.seed),
            ("-n", kept.pairs, wish.pairs),
            ("lists", ", ".join(was), ", ".join(names)),
            ("image size", kept.image_size, wish.image_size),
            ("original size", kept.original_size, wish.original_size),
        )
        if before != now
    ]
    if not differences:
        pairs = split_by(_weights(wish, names, [was[name].rows for name in names]), wish.pairs)
        differences += [
            f"{was[name].pairs} pairs and not {count} from {name}"
            for name, count in zip(names, pairs, strict=True)
            if was[name].pairs != count
        ]
        # A list that is gone by now is not asked for again.
        differences += [
            f"another list {path}"
            for name, path in zip(names, wish.lists, strict=True)
            if path.is_file() and path.stat().st_size != was[name].size
        ]
    if differences:
        raise UsageError(
            f"{kept.folder} was prepared otherwise: {'; '.join(differences)}. Choose another folder with "
            "--output, or delete this one."
        )


def _write_list(prepared: Prepared, share: Share, path: Path, index: ListIndex, report: Report) -> None:
    """The chosen pairs in random order. They are dealt to piles on disk, and each pile is then shuffled."""
    rows = chosen_rows(index.rows, share.pairs, Random(f"{prepared.seed}/{share.name}/choice"))
    pairs = pairs_at(
        path, index, rows, progress=lambda end: report(f"choosing from {share.name}", end, share.size)
    )
    target, rng = prepared.list_of(share), Random(f"{prepared.seed}/{share.name}/order")
    prepared.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=prepared.folder, prefix=f".{share.name}.") as scratch,
        replacing(target) as draft,
        draft.open("wb") as file,
    ):
        for pile in _dealt(pairs, math.ceil(share.pairs / PILE), Path(scratch), rng):
            lines = pile.read_bytes().splitlines(keepends=True)
            # Not rng.shuffle: only random() is promised to give the same in every version of Python.
            order = [rng.random() for _ in lines]
            file.writelines(lines[place] for place in sorted(range(len(lines)), key=order.__getitem__))
            pile.unlink()
    report(f"choosing from {share.name}", share.size, share.size)


def _dealt(pairs: Iterable[Pair], piles: int, scratch: Path, rng: Random) -> list[Path]:
    paths = [scratch / str(place) for place in range(piles)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for pair in pairs:
            line = json.dumps(asdict(pair), ensure_ascii=False).encode("utf-8") + b"\n"
            files[int(rng.random() * piles)].write(line)
    return paths


def _write_facts(prepared: Prepared) -> None:
    facts = {key: value for key, value in asdict(prepared).items() if key != "folder"}
    with replacing(prepared.folder / FACTS) as draft:
        draft.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
