"""Curated pictures and texts as a folder that stage 2 reads; written atomically.

cc_sbu_align    filter_cap.json and image/ID.jpg, as the authors released theirs; other pictures become JPEG
webdataset      00000.tar and so on: ID.jpg (or .png and so on) and ID.json
captions        captions.jsonl beside the pictures, under their own names

Pictures are copied; the originals are never touched.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from minigpt4.core.errors import DataError, UsageError
from minigpt4.core.pixels import open_picture
from minigpt4.core.storage.atomic import replacing
from minigpt4.train.data.coco import ALIGN_FILE, ALIGN_FOLDER
from minigpt4.train.data.files import SUFFIXES
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.run_folder import row_line

MARK = "curated.json"
"""Marks a folder as an export, and of what, so that a newer one may replace it."""

PER_SHARD = 1000
JPEG_QUALITY = 95


@dataclass(frozen=True, eq=False)
class Item:
    """A picture, the digest of the file that was described, and its text."""

    photo: EvalPhoto
    digest: str
    text: str

    def read(self) -> bytes:
        """The picture's file; raises DataError if it has changed since it was described."""
        data = self.photo.read()
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise DataError(
                f"The picture '{self.photo.key}' has changed since it was described; curate again into a new "
                "folder, or bring the old picture back."
            )
        return data


@dataclass(frozen=True)
class Export:
    """The form of an export, and the folder to write."""

    form: str
    folder: Path

    @classmethod
    def named(cls, text: str) -> Export:
        """Parse FORM:PATH; raises UsageError for an unknown form, or a folder that holds something else."""
        form, _, path = text.partition(":")
        if form not in FORMS or not path:
            raise UsageError(f"'{text}' is no export; write FORM:FOLDER, with the form {', '.join(FORMS)}.")
        folder = Path(path).expanduser()
        if folder.exists() and _mark(folder) is None and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"'{folder}' is neither empty nor an export of a curation; choose another.")
        return cls(form, folder)

    def write(self, items: Sequence[Item], advance: Callable[[], object] = lambda: None) -> bool:
        """Write the folder, or replace an older export; False if it already holds the same items.

        Raises DataError or PhotoError for a picture that is missing or has changed, and OSError.
        """
        mark = {"form": self.form, "items": len(items), "fingerprint": _fingerprint(items)}
        if _mark(self.folder) == mark:
            return False
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}.", suffix=".part"))
        try:
            FORMS[self.form](draft, items, advance)
            (draft / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
            draft.chmod(0o777 & ~_umask_of(self.folder.parent))
            self._put(draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def _put(self, draft: Path) -> None:
        if not self.folder.exists():
            draft.rename(self.folder)
            return
        old = draft.with_suffix(".old")
        self.folder.rename(old)
        try:
            draft.rename(self.folder)
        except OSError:
            old.rename(self.folder)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _umask_of(folder: Path) -> int:
    """The umask, read from a new folder: mkdtemp's own mode would hide the export from other users."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        inner = Path(place) / "new"
        inner.mkdir()
        return 0o777 & ~inner.stat().st_mode


def _mark(folder: Path) -> Mapping[str, Any] | None:
    with suppress(OSError, ValueError):
        content = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else None
    return None


def _fingerprint(items: Sequence[Item]) -> str:
    content = hashlib.sha256()
    for item in items:
        content.update(json.dumps([item.photo.key, item.digest, item.text]).encode())
    return content.hexdigest()[:16]


def _align(folder: Path, items: Sequence[Item], advance: Callable[[], object]) -> None:
    (folder / ALIGN_FOLDER).mkdir()
    annotations = []
    for number, item in enumerate(items, start=1):
        name = str(number)
        (folder / ALIGN_FOLDER / f"{name}.jpg").write_bytes(_jpeg(item))
        annotations.append({"image_id": name, "caption": item.text, "photo": item.photo.key})
        advance()
    (folder / ALIGN_FILE).write_text(json.dumps({"annotations": annotations}, indent=1), encoding="utf-8")


def _jpeg(item: Item) -> bytes:
    """The picture as JPEG: the file itself if it is one."""
    data = item.read()
    picture = open_picture(data, name=item.photo.key)
    if picture.info.format == "JPEG":
        return data
    file = io.BytesIO()
    picture.image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def _shards(folder: Path, items: Sequence[Item], advance: Callable[[], object]) -> None:
    for first in range(0, len(items), PER_SHARD):
        with tarfile.open(folder / f"{first // PER_SHARD:05d}.tar", "w") as shard:
            for number, item in enumerate(items[first : first + PER_SHARD], start=first):
                meta = {"captions": [item.text], "caption": item.text, "photo": item.photo.key}
                _add(shard, f"{number:09d}{_suffix(item)}", item.read())
                _add(shard, f"{number:09d}.json", json.dumps(meta).encode())
                advance()


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _list(folder: Path, items: Sequence[Item], advance: Callable[[], object]) -> None:
    with replacing(folder / "captions.jsonl") as draft, draft.open("wb") as file:
        for item in items:
            key = PurePosixPath(item.photo.key)
            name = str(key) if key.suffix.lower() in SUFFIXES else f"{key}{_suffix(item)}"
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(item.read())
            file.write(row_line({"photo": name, "captions": [item.text]}))
            advance()


def _suffix(item: Item) -> str:
    """The suffix of the picture's format."""
    suffix = PurePosixPath(item.photo.key).suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    known = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}
    made = open_picture(item.read(), name=item.photo.key).info.format
    return known.get(made, f".{made.lower()}")


FORMS: Mapping[str, Callable[[Path, Sequence[Item], Callable[[], object]], None]] = {
    "cc_sbu_align": _align,
    "webdataset": _shards,
    "captions": _list,
}
