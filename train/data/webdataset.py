"""Webdataset shards: tar files of `KEY.jpg` beside `KEY.json`, read in place and never unpacked.

Nothing in a shard is trusted: names are only keys (a nested or absolute one goes nowhere on
disk), links and devices are passed over, and a member larger than `MEMBER_LIMIT` is not read.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.data.dataset import captions_in, lacks_captions

MEMBER_LIMIT = 64 * 1024 * 1024
"""Bytes. A photo above this is refused: no camera writes one, a bomb does."""

META_LIMIT = 1024 * 1024
"""Bytes. So are captions: parsing JSON takes twenty times its size in memory."""

MOST_SHARDS = 1_000_000
PHOTO_SUFFIXES = ("jpg", "jpeg", "png", "webp")
META_SUFFIXES = ("json", "txt")

_BLOCK = 512
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")

Skip = Callable[[str, str], None]
"""Told the key and the reason (a short phrase) of every sample that is left out."""


@dataclass(frozen=True, eq=False)
class RawSample:
    """One photo with what its shard says about it. The bytes are encoded, not pixels."""

    key: str
    jpg: bytes = field(repr=False)
    meta: Mapping[str, Any]
    shard: Path

    @property
    def captions(self) -> tuple[str, ...]:
        """`captions` of the metadata, or its `caption` alone; never an empty text among them."""
        return captions_in(self.meta)


def expand(patterns: Iterable[str | Path]) -> list[Path]:
    """The shards that folders, globs and brace patterns (`{00000..00005}.tar`, `{a,b}.tar`) name.

    In the order given, a folder's own `.tar` files and a glob's sorted by name, each shard once.
    Raises DataError for a pattern that names no file, UsageError for one that names too many.
    """
    shards: dict[Path, None] = {}
    for pattern in patterns:
        for path in expand_braces(str(pattern)):
            shards.update(dict.fromkeys(_named(path)))
    return list(shards)


def read_shard(path: Path, *, skipped: Skip | None = None) -> Iterator[RawSample]:
    """Every sample of a shard that has a photo and a caption, in the shard's order.

    The others are left out and told to `skipped`. A shard that is cut off or damaged raises
    DataError once everything readable before the damage has been yielded.
    """
    tell = skipped or (lambda _key, _reason: None)
    with _opened(path) as file:
        for found in samples_of(path, tell):
            try:
                meta = parsed_meta(found.meta.read(file), found.meta.suffix)
            except ValueError as fault:
                tell(found.key, str(fault))
                continue
            yield RawSample(key=found.key, jpg=found.photo.read(file), meta=meta, shard=path)


class Span(NamedTuple):
    """Where in its shard a file of `size` bytes begins; `suffix` is in small letters."""

    suffix: str
    offset: int
    size: int

    def read(self, file: BinaryIO) -> bytes:
        """Its content."""
        file.seek(self.offset)
        return file.read(self.size)


class Sample(NamedTuple):
    """A photo and its captions, not yet read."""

    key: str
    photo: Span
    meta: Span


def samples_of(path: Path, tell: Skip) -> Iterator[Sample]:
    """The samples that a shard's headers list, in its order; nothing but the headers is read.

    What has no photo or no captions is told to `tell`. Raises DataError as `read_shard` does.
    """
    damage: list[DataError] = []
    for key, members in itertools.groupby(_members(path, damage), key=lambda member: member[0]):
        found = [member[1] for member in members]
        spans = {span.suffix: span for span in found if isinstance(span, Span)}
        photo = next((spans[suffix] for suffix in PHOTO_SUFFIXES if suffix in spans), None)
        meta = next((spans[suffix] for suffix in META_SUFFIXES if suffix in spans), None)
        if photo is not None and meta is not None:
            yield Sample(key, photo, meta)
            continue
        fault = next((span for span in found if isinstance(span, str)), None)
        tell(key, fault or ("no photo" if photo is None else "no caption"))
    for error in damage:
        raise error


def parsed_meta(content: bytes, suffix: str) -> Mapping[str, Any]:
    """What a sample's JSON or text says; raises ValueError with a short phrase where it holds no caption."""
    meta: object
    try:
        meta = json.loads(content) if suffix == "json" else {"caption": content.decode("utf-8")}
    except UnicodeDecodeError:
        raise ValueError("a caption that is not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("unreadable JSON") from None
    if not isinstance(meta, dict):
        raise ValueError("no caption")
    if not captions_in(meta):
        raise ValueError(lacks_captions(meta))
    return meta


def count_photos(shards: Iterable[Path]) -> int:
    """How many photos the shards hold, from their headers alone; what cannot be read counts nothing."""
    total = 0
    for path in shards:
        with contextlib.suppress(OSError, tarfile.TarError), tarfile.open(path, mode="r:") as archive:
            for member in archive:
                total += _split(member.name)[1] in PHOTO_SUFFIXES
    return total


def _members(path: Path, damage: list[DataError]) -> Iterator[tuple[str, Span | str]]:
    """Key and place of every plain file that samples are made of, or why it is not to be read.

    What ends the archive before its end goes to `damage`.
    """
    count = end = 0
    try:
        with _opened(path) as file:
            length = file.seek(0, 2)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if member.size < 0 or not end <= member.offset_data <= length - member.size:
                        raise tarfile.ReadError("unexpected end of data")
                    count, end = count + 1, member.offset_data
                    key, suffix = _split(member.name)
                    if member.isreg() and suffix in (*PHOTO_SUFFIXES, *META_SUFFIXES):
                        yield key, _fault(member, suffix) or Span(suffix, member.offset_data, member.size)
                if not _ends_cleanly(file, archive.offset):
                    raise tarfile.ReadError("no end-of-archive mark")
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        damage.append(DataError(_damage(path, count, error)))
    except OSError as error:
        damage.append(DataError(f"The shard {path} cannot be read: {error.strerror or error}."))


def _fault(member: tarfile.TarInfo, suffix: str) -> str | None:
    limit = MEMBER_LIMIT if suffix in PHOTO_SUFFIXES else META_LIMIT
    if member.size > limit:
        return f"a {suffix} of more than {limit // 2**20} MB"
    return f"a {suffix} with holes" if member.issparse() else None


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"There is no shard {path}; check the path.") from None
    except OSError as error:
        raise DataError(f"The shard {path} cannot be read: {error.strerror or error}.") from None


def _ends_cleanly(file: BinaryIO, offset: int) -> bool:
    # tarfile takes a damaged or half header for the end of the archive without a word.
    file.seek(offset)
    return file.read(_BLOCK) == bytes(_BLOCK)


def _damage(path: Path, count: int, error: Exception) -> str:
    if count == 0:
        return (
            f"{path} is not a tar shard ({error}); give a plain, uncompressed .tar of KEY.jpg and KEY.json."
        )
    return (
        f"The shard {path} is cut off or damaged after {count} readable files ({error}); "
        "fetch it again, or leave it out."
    )


def _split(name: str) -> tuple[str, str]:
    """Key and suffix as webdataset has them: the suffix begins at the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _named(path: str) -> list[Path]:
    place = Path(path).expanduser()
    if place.is_dir():
        shards = sorted(place.glob("*.tar"))
        if not shards:
            inside = sorted({found.parent.name for found in place.glob("*/*.tar")})
            hint = f"; its folders {', '.join(inside)} have" if inside else ""
            raise DataError(f"The folder {path} has no .tar shards{hint}.")
        return shards
    if place.exists():
        return [place]
    shards = _matches(place)
    if not shards:
        raise DataError(f"There is no shard {path}; give a .tar file, a folder of them, or a pattern.")
    return shards


def _matches(pattern: Path) -> list[Path]:
    wild = next((place for place, part in enumerate(pattern.parts) if set(part) & set("*?[")), None)
    if wild is None:
        return []
    found = Path(*pattern.parts[:wild]).glob(str(Path(*pattern.parts[wild:])))
    return sorted(path for path in found if path.is_file())


def expand_braces(pattern: str) -> Iterator[str]:
    """The names that a brace pattern stands for; raises UsageError for one that stands for too many."""
    if Path(pattern).exists():
        yield pattern
        return
    span, choice = _RANGE.search(pattern), _CHOICE.search(pattern)
    found = span or choice
    if found is None:
        yield pattern
        return
    middles = _span(found) if span else found[1].split(",")
    for middle in middles:
        yield from expand_braces(pattern[: found.start()] + middle + pattern[found.end() :])


def _span(found: re.Match[str]) -> Iterator[str]:
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= MOST_SHARDS:
        raise UsageError(
            f"The range {found[0]} counts no shards, or more than {MOST_SHARDS}; write FIRST..LAST."
        )
    return (f"{number:0{len(found[1])}d}" for number in range(first, last + 1))
