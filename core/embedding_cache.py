"""Image embeddings kept on disk, so that a picture seen before needs neither tower nor torch.

    cache_home()/embeddings/<fingerprint>/<digest>.npy      float32 (N, D_llm)

The fingerprint names everything before the language model, the digest the picture's content:
an entry is never wrong, only absent. The cache is a convenience, so no trouble with its
folder ever fails an answer; it is logged and the vectors are computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.atomic import replacing
from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.dtypes import AUTO
from minigpt4.core.errors import BundleError
from minigpt4.core.paths import cache_home
from minigpt4.core.vision.fingerprint import tower_fingerprint

LIMIT_BYTES = 512 * 1024**2
"""About 15,000 of mini's pictures: 15 vectors of 576 numbers each."""

KEPT_SHARE = 0.9
"""What is left after a clean-up, so that not every new picture needs one."""

log = logging.getLogger(__name__)


class EmbeddingCache:
    """Embeddings made under one fingerprint, in a folder shared by all of them and bounded."""

    def __init__(
        self,
        fingerprint: str,
        *,
        tokens: int,
        width: int,
        folder: Path | None = None,
        limit: int = LIMIT_BYTES,
    ) -> None:
        self._root = folder or cache_home() / "embeddings"
        self._folder = self._root / fingerprint
        self._shape = (tokens, width)
        self._limit = limit
        self._held: int | None = None
        self._has_failed = False

    def get(self, digest: str) -> NDArray[np.float32] | None:
        """The embedding (N, D_llm) of the picture with this digest, if it is here and sound."""
        path = self._path(digest)
        try:
            # Not np.load: it takes what begins like a zip archive for one, with errors of its own.
            with path.open("rb") as file:
                tokens_ND = np.lib.format.read_array(file, allow_pickle=False)
            self._check(tokens_ND)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            log.warning("The cached image embedding %s is unusable (%s); it is made again.", path, error)
            _remove(path)
            return None
        _touch(path)
        return np.asarray(tokens_ND, dtype=np.float32)

    def put(self, digest: str, tokens_ND: NDArray[np.float32]) -> None:
        """Keep an embedding (N, D_llm); a folder that cannot be written costs one log line."""
        self._check(tokens_ND)
        path = self._path(digest)
        try:
            with replacing(path) as draft, draft.open("wb") as file:
                np.save(file, tokens_ND, allow_pickle=False)
            self._bound(path.stat().st_size)
        except OSError as error:
            # Said once: a run over a thousand pictures has better things to print.
            level = logging.DEBUG if self._has_failed else logging.WARNING
            log.log(level, "Image embeddings cannot be kept in %s (%s).", self._folder, error)
            self._has_failed = True

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.npy"

    def _check(self, tokens_ND: NDArray[np.float32]) -> None:
        if tokens_ND.shape != self._shape or tokens_ND.dtype != np.float32:
            found = f"{tokens_ND.dtype} {tokens_ND.shape}"
            raise ValueError(f"it holds {found} where float32 {self._shape} is wanted")
        if not np.isfinite(tokens_ND).all():
            raise ValueError("it holds values that are no numbers")

    def _bound(self, written: int) -> None:
        """Remove what was used longest ago once all fingerprints together pass the limit."""
        # Listing 15,000 files takes longer than a picture; between clean-ups a sum is enough.
        self._held = _size(self._root) if self._held is None else self._held + written
        if self._held <= self._limit:
            return
        self._held = 0
        by_use = sorted(_entries(self._root), key=lambda entry: entry[1], reverse=True)
        for path, _, size in by_use:
            if self._held + size > self._limit * KEPT_SHARE:
                _remove(path)
            else:
                self._held += size


def is_cached(digest: str) -> bool:
    """Whether some engine has encoded the picture with this digest, which is therefore sound."""
    return any((cache_home() / "embeddings").glob(f"*/{digest}.npy"))


def embedding_fingerprint(bundle: Bundle, projection: Path, dtype: str = AUTO) -> str:
    """16 hex digits that name everything that turns a picture's bytes into its embedding.

    `dtype` is the vision tower's. Raises BundleError where the projection file cannot be read, or
    one of the tower's files is not here and its checksum is not known.
    """
    try:
        projection_sha256 = hashlib.sha256(projection.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"The projection file {projection} cannot be read ({error.strerror or error}); "
            "check the path or train one first."
        ) from error
    made_by = {"tower": tower_fingerprint(bundle, dtype), "projection": projection_sha256}
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]


def _entries(root: Path) -> list[tuple[Path, float, int]]:
    """Every file below `root` with its time of last use and size; what vanishes meanwhile is left out."""
    entries: list[tuple[Path, float, int]] = []
    for path in root.glob("*/*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        entries.append((path, status.st_mtime, status.st_size))
    return entries


def _size(root: Path) -> int:
    return sum(size for _, _, size in _entries(root))


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError as error:
        log.debug("The time of last use of %s could not be noted (%s).", path, error)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s could not be removed (%s).", path, error)
