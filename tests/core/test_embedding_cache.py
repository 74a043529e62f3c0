from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.download.fetch import path_of
from minigpt4.core.embedding_cache import (
    ArrayCache,
    SquareCache,
    cached_bytes,
    embedding_fingerprint,
    is_cached,
)
from minigpt4.core.errors import BundleError
from minigpt4.core.vision.fingerprint import CODE_VERSION, tower_fingerprint

TOKENS, WIDTH = 2, 4
VALUES = np.arange(TOKENS * WIDTH, dtype=np.float32).reshape(TOKENS, WIDTH)


def cache_in(folder: Path, fingerprint: str = "f", limit: int = 10**9) -> ArrayCache:
    return ArrayCache(fingerprint, (TOKENS, WIDTH), np.float32, folder, limit)


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder nobody can write below, root included: its parent is a file."""
    (tmp_path / "file").write_text("not a folder")
    yield tmp_path / "file" / "embeddings"


@given(
    values=arrays(
        np.float32, (TOKENS, WIDTH), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    )
)
def test_an_embedding_is_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, values: NDArray[np.float32]
) -> None:
    folder = tmp_path_factory.mktemp("embeddings")
    cache_in(folder).put("picture", values)
    found = cache_in(folder).get("picture")
    assert found is not None
    assert found.tobytes() == values.tobytes()


def test_an_unknown_picture_is_absent_without_a_log_entry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cache_in(tmp_path).get("unknown") is None
    assert not caplog.records


def test_another_fingerprint_shares_nothing(tmp_path: Path) -> None:
    cache_in(tmp_path, "one").put("picture", VALUES)
    assert cache_in(tmp_path, "two").get("picture") is None


def test_the_default_folder_is_in_the_cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT4_HOME", str(tmp_path))
    ArrayCache("f", (TOKENS, WIDTH), np.float32).put("picture", VALUES)
    assert (tmp_path / "cache" / "embeddings" / "f" / "picture.npy").is_file()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"not an array",
        bytes(200),
        b"PK\x03\x04" + bytes(200),
        pytest.param("cut", id="cut off"),
        pytest.param("nan", id="not finite"),
        pytest.param("shape", id="another shape"),
        pytest.param("bit", id="a changed bit"),
        pytest.param("pickle", id="a pickle"),
    ],
)
def test_a_damaged_entry_is_removed_and_can_be_written_again(
    tmp_path: Path, damaged: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_in(tmp_path)
    cache.put("picture", VALUES)
    path = tmp_path / "f" / "picture.npy"
    match damaged:
        case "cut":
            path.write_bytes(path.read_bytes()[:-3])
        case "nan":
            np.save(path, np.full_like(VALUES, np.nan))
        case "shape":
            np.save(path, VALUES[:1])
        case "bit":
            content = bytearray(path.read_bytes())
            content[-5 - VALUES.nbytes // 2] ^= 1
            path.write_bytes(content)
        case "pickle":
            np.save(path, np.array([print], dtype=object), allow_pickle=True)
        case bytes():
            path.write_bytes(damaged)
    assert cache.get("picture") is None
    assert not path.exists()
    assert str(path) in caplog.text
    cache.put("picture", VALUES)
    assert cache.get("picture") is not None


def test_a_folder_that_cannot_be_written_costs_one_log_line_and_no_more(
    closed_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "another"):
        cache = cache_in(closed_folder, name)
        for key in ("first", "second"):
            assert cache.get(key) is None
            cache.put(key, VALUES)
            cache.remove(key)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot be kept" in caplog.text


def test_many_damaged_entries_cost_one_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = cache_in(tmp_path)
    for key in ("one", "two", "three"):
        cache.put(key, VALUES)
        (tmp_path / "f" / f"{key}.npy").write_bytes(b"noise")
        assert cache.get(key) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_entry_of_an_earlier_version_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "picture.npy", VALUES)
    found = cache_in(tmp_path).get("picture")
    assert found is not None and found.tobytes() == VALUES.tobytes()


FILLING = """
import sys
from pathlib import Path
import numpy as np
from minigpt4.core.embedding_cache import ArrayCache
folder, process, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cache = ArrayCache("f", (2, 4), np.float32, folder, limit)
for number in range(150):
    for key, value in ((f"own{process}-{number}", process), (f"shared{number % 7}", number % 7)):
        found = cache.get(key)
        assert found is None or (found == value).all(), (key, found)
        cache.put(key, np.full((2, 4), value, np.float32))
"""


def test_processes_that_share_a_folder_read_only_whole_entries_and_keep_its_limit(tmp_path: Path) -> None:
    cache_in(tmp_path).put("size", VALUES)
    size = (tmp_path / "f" / "size.npy").stat().st_size
    limit = 40 * size
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", FILLING, str(tmp_path), str(process), str(limit)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(3)
    ]
    for program in programs:
        _, said = program.communicate(timeout=120)
        assert (program.returncode, said) == (0, "")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix != ".npy"], "nothing is left half written"
    # Each may have written a tenth of the limit since it last listed the folder.
    assert 0 < sum(path.stat().st_size for path in files) <= limit * 1.3


def test_what_the_cache_takes_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT4_HOME", str(tmp_path))
    assert cached_bytes() == (0, 0)
    cache = ArrayCache("f", (TOKENS, WIDTH), np.float32)
    cache.put("one", VALUES)
    cache.put("two", VALUES)
    files, size = cached_bytes()
    assert files == 2
    assert size == sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.npy"))


def test_a_full_disk_leaves_no_half_written_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: object, values: object, allow_pickle: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    cache_in(tmp_path).put("picture", VALUES)
    assert "No space left" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_least_recently_used_entries_are_evicted_across_fingerprints(tmp_path: Path) -> None:
    cache_in(tmp_path).put("size", VALUES)
    size = (tmp_path / "f" / "size.npy").stat().st_size
    (tmp_path / "f" / "size.npy").unlink()
    old = cache_in(tmp_path, "old")
    new = cache_in(tmp_path, "new", limit=4 * size)
    for age, digest in enumerate(["oldest", "used", "newer"]):
        old.put(digest, VALUES)
        os.utime(tmp_path / "old" / f"{digest}.npy", (age + 1, age + 1))
    assert old.get("used") is not None
    new.put("first", VALUES)
    assert len(list(tmp_path.rglob("*.npy"))) == 4
    new.put("second", VALUES)
    assert {path.stem for path in tmp_path.rglob("*.npy")} == {"used", "first", "second"}


def test_squares_are_taken_once_and_mark_a_picture_as_decodable() -> None:
    square = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    assert not is_cached("digest")
    SquareCache(4).put("digest", square)
    assert is_cached("digest")
    assert SquareCache(5).get("digest") is None
    taken = SquareCache(4).get("digest")
    assert taken is not None and taken.tobytes() == square.tobytes()
    SquareCache(4).remove("digest")
    SquareCache(4).remove("digest")
    assert SquareCache(4).get("digest") is None


@pytest.fixture
def projection_file(tmp_path: Path) -> Path:
    path = tmp_path / "projection.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def mini() -> Bundle:
    return load_bundle("mini")


def test_the_fingerprint_is_16_hex_digits_and_stable(mini: Bundle, projection_file: Path) -> None:
    fingerprint = embedding_fingerprint(mini, projection_file)
    assert len(fingerprint) == 16
    assert set(fingerprint) <= set("0123456789abcdef")
    assert embedding_fingerprint(load_bundle("mini"), projection_file) == fingerprint


def test_the_fingerprint_follows_everything_before_the_language_model(
    mini: Bundle, projection_file: Path
) -> None:
    vision = mini.vision
    others = [
        replace(vision, image_size=261),
        replace(vision, mean=(0.0, 0.0, 0.0)),
        replace(vision, std=(1.0, 1.0, 1.0)),
        replace(vision, options={**vision.options, "grid": 9}),
        replace(vision, architecture="another"),
        replace(vision, file=replace(vision.file, sha256="0" * 64)),
    ]
    fingerprints = {
        embedding_fingerprint(replace(mini, vision=spec), projection_file) for spec in [vision, *others]
    }
    assert len(fingerprints) == 1 + len(others)
    before = embedding_fingerprint(mini, projection_file)
    projection_file.write_bytes(b"other weights")
    assert embedding_fingerprint(mini, projection_file) != before


def test_both_fingerprints_follow_the_version_of_the_code(
    mini: Bundle, projection_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tower_fingerprint(mini), embedding_fingerprint(mini, projection_file)
    monkeypatch.setattr("minigpt4.core.vision.fingerprint.CODE_VERSION", CODE_VERSION + 1)
    after = tower_fingerprint(mini), embedding_fingerprint(mini, projection_file)
    assert before[0] != after[0] and before[1] != after[1]


def test_the_fingerprint_does_not_follow_the_language_model(mini: Bundle, projection_file: Path) -> None:
    file = replace(mini.language.files[0], sha256="0" * 64)
    other = replace(mini, language=replace(mini.language, files=(file,)))
    assert embedding_fingerprint(other, projection_file) == embedding_fingerprint(mini, projection_file)


def test_the_fingerprint_follows_the_qformer_and_the_float_type(tiny_bundle: Callable[..., Bundle]) -> None:
    bundle = tiny_bundle()
    assert bundle.qformer is not None
    fingerprints = {tower_fingerprint(bundle, dtype) for dtype in ("auto", "fp32", "bf16", "fp16")}
    assert len(fingerprints) == 4
    assert tower_fingerprint(bundle, "float32") == tower_fingerprint(bundle, "fp32")
    other = replace(bundle.qformer, options=replace(bundle.qformer.options, cross_attention_every=4))
    fingerprints.add(tower_fingerprint(replace(bundle, qformer=other), "fp32"))
    fingerprints.add(tower_fingerprint(replace(bundle, qformer=None), "fp32"))
    other = replace(bundle.qformer, file=replace(bundle.qformer.file, sha256="0" * 64))
    fingerprints.add(tower_fingerprint(replace(bundle, qformer=other), "fp32"))
    assert len(fingerprints) == 7


def test_the_fingerprint_follows_auto_to_another_processor(
    tiny_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for has_bf16 in (True, False):
        monkeypatch.setattr("minigpt4.core.dtypes.has_bf16", lambda has=has_bf16: has)
        found.add(tower_fingerprint(tiny_bundle()))
    assert len(found) == 2


def test_minis_fingerprint_ignores_an_unsupported_float_type(mini: Bundle) -> None:
    assert tower_fingerprint(mini) == tower_fingerprint(mini, "fp32") == tower_fingerprint(mini, "bf16")


def test_a_missing_tower_has_no_fingerprint(tiny_bundle: Callable[..., Bundle]) -> None:
    bundle = tiny_bundle()
    path_of(bundle.vision.file, bundle).unlink()
    with pytest.raises(BundleError, match=r"eva_vit\.pth is not here yet.*`minigpt4 models pull tiny`"):
        tower_fingerprint(bundle)


def test_a_missing_projection_is_named(mini: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.safetensors cannot be read"):
        embedding_fingerprint(mini, tmp_path / "none.safetensors")
