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
from typing import Any, BinaryIO

from minigpt4.core.errors import DataError, UsageError

MEMBER_LIMIT = 64 * 1024 * 1024
"""Bytes. A photo or its captions above this is refused: no camera writes one, a bomb does."""

MOST_SHARDS = 1_000_000
PHOTO_SUFFIXES = ("jpg", "jpeg", "png", "webp")

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


def captions_in(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The captions that a sample's metadata holds, possibly none."""
    captions = meta.get("captions")
    if not isinstance(captions, list):
        captions = [meta.get("caption")]
    return tuple(text.strip() for text in captions if isinstance(text, str) and text.strip())


def expand(patterns: Iterable[str | Path]) -> list[Path]:
    """The shards that folders, globs and brace patterns (`{00000..00005}.tar`, `{a,b}.tar`) name.

    In the order given, a folder's own `.tar` files and a glob's sorted by name, each shard once.
    Raises DataError for a pattern that names no file, UsageError for one that names too many.
    """
    shards: dict[Path, None] = {}
    for pattern in patterns:
        for path in _braces(str(pattern)):
            shards.update(dict.fromkeys(_named(path)))
    return list(shards)


def read_shard(path: Path, *, skipped: Skip | None = None) -> Iterator[RawSample]:
    """Every sample of a shard that has a photo and a caption, in the shard's order.

    The others are left out and told to `skipped`. A shard that is cut off or damaged raises
    DataError once everything readable before the damage has been yielded.
    """
    tell = skipped or (lambda _key, _reason: None)
    for key, parts in itertools.groupby(_members(path, tell), key=lambda part: part[0]):
        files = {suffix: content for _, suffix, content in parts}
        sample = _sample(key, files, path, tell)
        if sample is not None:
            yield sample


def count_photos(shards: Iterable[Path]) -> int:
    """How many photos the shards hold, from their headers alone; what cannot be read counts nothing."""
    total = 0
    for path in shards:
        with contextlib.suppress(OSError, tarfile.TarError), tarfile.open(path, mode="r:") as archive:
            for member in archive:
                total += _split(member.name)[1] in PHOTO_SUFFIXES
    return total


def _sample(key: str, files: dict[str, bytes], shard: Path, tell: Skip) -> RawSample | None:
    photo = next((files[suffix] for suffix in PHOTO_SUFFIXES if suffix in files), None)
    if photo is None:
        tell(key, "no photo")
        return None
    meta: object = {}
    if "json" in files:
        try:
            meta = json.loads(files["json"])
        except (ValueError, RecursionError):
            tell(key, "unreadable JSON")
            return None
    elif "txt" in files:
        meta = {"caption": files["txt"].decode("utf-8", errors="replace")}
    if not isinstance(meta, dict) or not captions_in(meta):
        tell(key, "no caption")
        return None
    return RawSample(key=key, jpg=photo, meta=meta, shard=shard)


def _members(path: Path, tell: Skip) -> Iterator[tuple[str, str, bytes]]:
    """Key, lower-case suffix and content of every plain file that samples are made of."""
    count = 0
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                count += 1
                key, suffix = _split(member.name)
                if not member.isreg() or suffix not in (*PHOTO_SUFFIXES, "json", "txt"):
                    continue
                if member.size > MEMBER_LIMIT:
                    tell(key, f"a {suffix} of more than {MEMBER_LIMIT // 2**20} MB")
                    continue
                content = archive.extractfile(member)
                assert content is not None  # holds for every regular member
                yield key, suffix, content.read()
            if not _ends_cleanly(file, archive.offset):
                raise tarfile.ReadError("no end-of-archive mark")
    except FileNotFoundError:
        raise DataError(f"There is no shard {path}; check the path.") from None
    except (tarfile.TarError, EOFError) as error:
        raise DataError(_damage(path, count, error)) from None
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


def _braces(pattern: str) -> Iterator[str]:
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
        yield from _braces(pattern[: found.start()] + middle + pattern[found.end() :])


def _span(found: re.Match[str]) -> Iterator[str]:
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= MOST_SHARDS:
        raise UsageError(
            f"The range {found[0]} counts no shards, or more than {MOST_SHARDS}; write FIRST..LAST."
        )
    return (f"{number:0{len(found[1])}d}" for number in range(first, last + 1))
