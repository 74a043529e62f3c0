"""Webdataset shards: tar files of `KEY.jpg` beside `KEY.json`, read in place and never unpacked.

Nothing in a shard is trusted: names are only keys (a nested or absolute one goes nowhere on
disk), links and devices are ignored, and a member larger than `MEMBER_LIMIT` is not read.
"""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.data.dataset import NO_CAPTION

MEMBER_LIMIT = 64 * 1024 * 1024
"""Bytes. A larger image is refused: no camera writes one, a decompression bomb does."""

META_LIMIT = 1024 * 1024
"""Bytes. The same for captions: parsing JSON takes twenty times its size in memory."""

MOST_SHARDS = 1_000_000
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
META_SUFFIXES = ("json", "txt")

_BLOCK = 512
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")


class Span(NamedTuple):
    """The bytes of one file inside a shard; `suffix` is in lower case."""

    suffix: str
    offset: int
    size: int


class Member(NamedTuple):
    """A photo or caption file of a shard: its bytes, or why they cannot be used.

    `is_dotted`: the key has a dot.
    """

    key: str
    suffix: str
    content: Span | str
    is_dotted: bool


Placed = tuple[int, Member]
"""A file with its place among those of the shard."""


class Sample(NamedTuple):
    """An image and its captions, not yet read: in a JSON file, a text file, or either."""

    key: str
    image: Span
    json: Span | None
    text: Span | None


@dataclass(frozen=True)
class Contents:
    """A shard's samples in order, key and reason of each that is skipped, and how the file is damaged.

    `is_regrouped` is true if webdataset itself would not find some samples: their members are not
    adjacent, their key has a dot, or they follow another sample of their key.
    """

    samples: list[Sample]
    skipped: list[tuple[str, str]]
    damage: str
    is_regrouped: bool = False


def scan(path: Path) -> Contents:
    """The samples in a shard's headers, up to the first damage; only the headers are read.

    Raises OSError.
    """
    members, damage = _members(path)
    found: list[tuple[int, Sample | tuple[str, str]]] = []
    # A key with a dot is the name of a member up to its last dot; webdataset reads up to the first.
    rest: list[Placed] = [(place, member) for place, member in enumerate(members) if member.is_dotted]
    whole: set[str] = set()
    is_regrouped = False
    neighbours = [(place, member) for place, member in enumerate(members) if not member.is_dotted]
    for key, run, is_repeated in _runs(neighbours):
        is_regrouped |= is_repeated
        sample = _sample(key, [member for _, member in run])
        if sample is None:
            rest += run
        else:
            found.append((run[0][0], sample))
            whole.add(key)
    by_key: dict[str, list[Placed]] = {}
    for place, member in sorted(rest, key=lambda one: one[0]):
        by_key.setdefault(member.key, []).append((place, member))
    for key, scattered in by_key.items():
        parts = [member for _, member in scattered]
        sample = _sample(key, parts)
        if sample is not None and key in whole:
            # Of several files of one name, adjacent ones form a sample; the others may be mispaired.
            found.append((scattered[0][0], (key, "several files of the same name, not one after the other")))
            continue
        is_regrouped |= sample is not None
        # `KEY.mask.png` beside a sample KEY belongs to it, and is not used here.
        if sample is not None or not parts[0].is_dotted or _split(key)[0] not in whole:
            found.append((scattered[0][0], sample or (key, _lack(parts))))
            if sample is not None and len({member.suffix for member in parts}) < len(parts):
                found.append((scattered[0][0], (key, "several files of the same name, of which one is used")))
    found.sort(key=lambda one: one[0])
    samples = [one for _, one in found if isinstance(one, Sample)]
    skipped = [one for _, one in found if not isinstance(one, Sample)]
    return Contents(samples, skipped, damage, is_regrouped)


def _runs(members: Iterable[Placed]) -> Iterator[tuple[str, list[Placed], bool]]:
    """Adjacent members of one key, and whether they are a second sample, after others of that key."""
    for key, group in itertools.groupby(members, key=lambda one: one[1].key):
        run: list[Placed] = []
        is_repeated = False
        for one in group:
            if any(one[1].suffix == other.suffix for _, other in run):
                yield key, run, is_repeated
                run, is_repeated = [], True
            run.append(one)
        yield key, run, is_repeated


def _sample(key: str, members: Sequence[Member]) -> Sample | None:
    """The sample of a key's members, if a photo and its captions are among them."""
    spans = {member.suffix: member.content for member in members if isinstance(member.content, Span)}
    image = next((spans[suffix] for suffix in IMAGE_SUFFIXES if suffix in spans), None)
    if image is None or not set(META_SUFFIXES) & set(spans):
        return None
    return Sample(key, image, spans.get("json"), spans.get("txt"))


def _lack(members: Sequence[Member]) -> str:
    """Why the members do not form a sample."""
    fault = next((member.content for member in members if isinstance(member.content, str)), None)
    has_photo = any(member.suffix in IMAGE_SUFFIXES for member in members)
    return fault or (NO_CAPTION if has_photo else "no photo")


def parsed_json(content: bytes) -> Mapping[str, Any]:
    """The metadata in a sample's JSON file; raises ValueError, a short phrase, if it cannot be read."""
    try:
        meta = json.loads(content)
    except UnicodeDecodeError:
        raise ValueError("a caption that is not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("unreadable JSON") from None
    return meta if isinstance(meta, dict) else {}


def parsed_text(content: bytes) -> str:
    """The caption in a sample's text file; raises ValueError, a short phrase, if it cannot be read."""
    try:
        return content.decode(json.detect_encoding(content[:4]))
    except UnicodeDecodeError:
        raise ValueError("a caption that is not UTF-8") from None


def _members(path: Path) -> tuple[list[Member], str]:
    """Every photo and caption file in a shard, and the damage."""
    found: list[Member] = []
    count = end = 0
    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if member.size < 0 or not end <= member.offset_data <= length - member.size:
                        raise tarfile.ReadError("unexpected end of data")
                    count, end = count + 1, member.offset_data
                    key, suffix = _split(member.name)
                    is_dotted = "." in suffix and not key.endswith("/") and key != ""
                    if is_dotted:
                        key, suffix = _split(member.name, last=True)
                    if member.isreg() and suffix in (*IMAGE_SUFFIXES, *META_SUFFIXES):
                        span = Span(suffix, member.offset_data, member.size)
                        found.append(Member(key, suffix, _fault(member, suffix) or span, is_dotted))
                # tarfile silently takes a damaged or truncated header for the end of the archive.
                file.seek(archive.offset)
                if file.read(_BLOCK) != bytes(_BLOCK):
                    raise tarfile.ReadError("no end-of-archive mark")
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            return found, _damage(path, count, error)
    return found, ""


def _fault(member: tarfile.TarInfo, suffix: str) -> str | None:
    limit = MEMBER_LIMIT if suffix in IMAGE_SUFFIXES else META_LIMIT
    if member.size > limit:
        return f"a {suffix} of more than {limit // 2**20} MB"
    return f"a {suffix} with holes" if member.issparse() else None


def _damage(path: Path, count: int, error: Exception) -> str:
    if count == 0:
        return (
            f"{path} is not a tar shard ({error}); give a plain, uncompressed .tar of KEY.jpg and KEY.json."
        )
    return (
        f"The shard {path} is cut off or damaged after {count} readable files ({error}); "
        "fetch it again, or leave it out."
    )


def _split(name: str, *, last: bool = False) -> tuple[str, str]:
    """Key and suffix: as in webdataset from the first dot of the base name, or from the last one."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.rpartition(".") if last else base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def expand(patterns: Iterable[str | Path]) -> list[Path]:
    """The shards in folders, globs and brace patterns (`{00000..00005}.tar`, `{a,b}.tar`).

    In the order given, a folder's own `.tar` files and a glob's sorted by name, each shard once.
    Raises DataError for a pattern without a file, UsageError for one with too many names.
    """
    names = (name for pattern in patterns for name in expand_braces(str(pattern)))
    return list(dict.fromkeys(shard for name in names for shard in _named(name)))


def _named(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        if not shards:
            inside = sorted({found.parent.name for found in path.glob("*/*.tar")})
            hint = f"; its folders {', '.join(inside)} have" if inside else ""
            raise DataError(f"The folder {name} has no .tar shards{hint}.")
        return shards
    if path.exists():
        return [path]
    wild = next((at for at, part in enumerate(path.parts) if set(part) & set("*?[")), None)
    if wild is not None:
        matches = Path(*path.parts[:wild]).glob(str(Path(*path.parts[wild:])))
        if shards := sorted(match for match in matches if match.is_file()):
            return shards
    raise DataError(f"There is no shard {name}; give a .tar file, a folder of them, or a pattern.")


def expand_braces(pattern: str) -> Iterator[str]:
    """The names in a brace pattern; raises UsageError if they are too many."""
    span, choice = _RANGE.search(pattern), _CHOICE.search(pattern)
    found = span or choice
    if found is None or Path(pattern).exists():
        yield pattern
        return
    middles = _numbers(found) if span else found[1].split(",")
    for middle in middles:
        yield from expand_braces(pattern[: found.start()] + middle + pattern[found.end() :])


def _numbers(found: re.Match[str]) -> Iterator[str]:
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= MOST_SHARDS:
        raise UsageError(
            f"The range {found[0]} counts no shards, or more than {MOST_SHARDS}; write FIRST..LAST."
        )
    return (f"{number:0{len(found[1])}d}" for number in range(first, last + 1))
