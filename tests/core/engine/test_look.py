"""Pictures become embeddings once, and are read from the disk cache from then on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from minigpt4.core import pixels
from minigpt4.core.bundles.bundle import ObjectsSpec, load_bundle
from minigpt4.core.bundles.source import File
from minigpt4.core.embedding_cache import ArrayCache, SquareCache
from minigpt4.core.engine import Engine
from minigpt4.core.errors import ImageError
from minigpt4.core.pixels import Picture, open_picture
from minigpt4.core.prompt import User
from minigpt4.core.types import Encoder
from minigpt4.tui.images.attachments import attachment

WIDTH, TOKENS = 4, 3


class OneAnswer:
    """A language model that says the same whatever it is asked."""

    width = WIDTH
    context = 400
    computed = 0

    def tokenize(self, *texts: object) -> list[int]:
        return [0]

    def generate(self, *_: object) -> Iterator[int]:
        yield from b"A cat."

    def piece(self, token: int) -> bytes:
        return bytes([token])


class CountingEncoder:
    """Fills an embedding with the mean grey of the picture, and counts how often it is asked."""

    def __init__(self) -> None:
        self.made = 0
        self.asked = 0
        self.searched = 0

    def make(self) -> Encoder:
        self.made += 1
        return self

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        self.asked += 1
        return np.full((TOKENS, WIDTH), np.asarray(picture.image).mean(), dtype=np.float32)

    def object_boxes(self, picture: Picture) -> NDArray[np.float32]:
        """A dog as sure as the picture is bright, and two rows that are left over."""
        self.searched += 1
        brightness = float(np.asarray(picture.image).mean()) / 255
        empty = [0.0] * 6
        return np.array([[DOG, brightness, 0, 0.25, 0.5, 1], empty, empty], np.float32)


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


def engine_of(encoder: CountingEncoder, objects: ObjectsSpec | None = None, *, cache: bool = True) -> Engine:
    mini = load_bundle("mini")
    shape = replace(mini.projection, image_tokens=TOKENS, outputs=WIDTH)
    bundle = replace(mini, projection=shape, objects=objects)
    return Engine(bundle, cast("Any", OneAnswer()), encoder.make, "fingerprint", cache=cache)


def grey(value: int) -> Image.Image:
    return Image.new("RGB", (8, 6), (value, value, value))


def test_a_picture_is_encoded_once_and_then_read_from_disk(encoder: CountingEncoder) -> None:
    first = engine_of(encoder).look(grey(7))
    again = engine_of(encoder).look(grey(7))
    other = engine_of(encoder).look(grey(8))
    assert (first.tokens_ND == 7).all()
    assert first.tokens_ND.tobytes() == again.tokens_ND.tobytes()
    assert first.key == again.key != other.key
    assert encoder.asked == 2


def test_without_the_cache_nothing_is_read_from_it_and_nothing_is_kept(
    encoder: CountingEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT4_HOME", str(tmp_path))
    uncached = engine_of(encoder, THREE, cache=False)
    first = uncached.look(grey(7))
    assert len(uncached.objects(grey(7))) == 1
    assert not (tmp_path / "cache").exists()
    wrong = np.zeros((TOKENS, WIDTH), np.float32)
    ArrayCache("fingerprint", wrong.shape, np.float32).put(Picture.of_image(grey(7)).key, wrong)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.npy")}
    assert uncached.look(grey(7)).tokens_ND.tobytes() == first.tokens_ND.tobytes()
    assert encoder.asked == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.npy")} == before
    assert (engine_of(encoder).look(grey(7)).tokens_ND == 0).all(), "the entry was there to be found"


def test_the_encoder_is_made_at_the_first_unknown_picture_and_only_once(encoder: CountingEncoder) -> None:
    engine = engine_of(encoder)
    assert encoder.made == 0
    for value in (1, 2, 1):
        engine.look(grey(value))
    assert (encoder.made, encoder.asked) == (1, 2)


THREE = ObjectsSpec("ssd-mobilenet-v2", File("detector.pb", 1), limit=3, min_score=0.3)
DOG = 18


def test_the_objects_of_a_picture_are_found_once_and_then_read_from_disk(encoder: CountingEncoder) -> None:
    (dog,) = engine_of(encoder, THREE).objects(grey(102))
    assert (dog.name, dog.box) == ("dog", (0, 0.25, 0.5, 1))
    assert dog.score == pytest.approx(0.4)
    assert engine_of(encoder, THREE).objects(grey(102)) == [dog]
    assert engine_of(encoder, THREE).objects(grey(103)) != [dog]
    assert (encoder.searched, encoder.asked) == (2, 0), "no embedding is needed for them"


def test_objects_of_what_is_no_picture_are_an_error(encoder: CountingEncoder) -> None:
    with pytest.raises(ImageError):
        engine_of(encoder, THREE).objects(b"no picture")


def test_a_bundle_without_a_detector_has_no_objects_and_loads_nothing_for_them(
    encoder: CountingEncoder,
) -> None:
    assert engine_of(encoder).objects(grey(7)) == []
    assert (encoder.made, encoder.searched) == (0, 0)


def test_pixels_that_the_app_left_serve_both_the_objects_and_the_embedding(
    encoder: CountingEncoder, tmp_path: Path, decoded: list[object]
) -> None:
    grey(51).save(tmp_path / "a.png")
    engine = engine_of(encoder, THREE)
    size = engine.bundle.vision.image_size
    key = open_picture(tmp_path / "a.png").key
    SquareCache(size).put(key, np.full((size, size, 3), 51, np.uint8))
    assert engine.objects(tmp_path / "a.png")[0].score == pytest.approx(0.2)
    engine.look(tmp_path / "a.png")
    assert decoded == []
    assert SquareCache(size).get(key) is None


def test_the_same_file_under_another_name_is_the_same_picture(
    encoder: CountingEncoder, tmp_path: Path
) -> None:
    grey(9).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    engine = engine_of(encoder)
    keys = {engine.look(tmp_path / name).key for name in ("a.png", "b.png")}
    keys.add(engine.look((tmp_path / "a.png").read_bytes()).key)
    assert len(keys) == 1
    assert encoder.asked == 1


def test_a_cache_that_cannot_be_written_fails_no_answer(
    encoder: CountingEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("MINIGPT4_HOME", str(tmp_path))
    engine = engine_of(encoder)
    embedding = engine.look(grey(7))
    assert engine.reply([User("?", images=[embedding])]).read() == "A cat."
    assert engine.look(grey(7)).key == embedding.key


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The files whose pixels Pillow has decoded."""
    files: list[object] = []
    load = ImageFile.ImageFile.load

    def counting(file: ImageFile.ImageFile) -> object:
        if file not in files:
            files.append(file)
        return load(file)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counting)
    return files


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "tif"])
def test_a_picture_whose_embedding_is_cached_is_not_decoded(
    encoder: CountingEncoder, decoded: list[object], tmp_path: Path, ending: str
) -> None:
    photo = tmp_path / f"photo.{ending}"
    grey(7).save(photo)
    first = engine_of(encoder).look(photo)
    assert len(decoded) == 1
    again = engine_of(encoder).look(photo)
    assert len(decoded) == 1
    assert (again.key, again.tokens_ND.tobytes()) == (first.key, first.tokens_ND.tobytes())


def test_a_file_is_read_and_hashed_once(
    encoder: CountingEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.png"
    grey(7).save(photo)
    opened: list[Path] = []
    hashed: list[int] = []
    real_open, real_hash = Path.open, pixels.hashlib.sha256
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: opened.append(path) or real_open(path, *a, **k))
    monkeypatch.setattr(pixels.hashlib, "sha256", lambda data: hashed.append(len(data)) or real_hash(data))
    engine_of(encoder).look(photo)
    assert opened.count(photo) == 1
    assert hashed == [photo.stat().st_size]


def test_what_is_no_picture_is_refused_although_it_is_decoded_late(
    encoder: CountingEncoder, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_bytes(b"some words")
    with pytest.raises(ImageError, match=r"text\.jpg' is a text, not a picture"):
        engine_of(encoder).look(tmp_path / "text.jpg")


def another_profile(image: Image.Image) -> bytes:
    """A PNG of it in a profile whose red and green are exchanged."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    buffer = BytesIO()
    image.save(buffer, "PNG", icc_profile=swapped)
    return buffer.getvalue()


def test_a_picture_whose_pixels_changed_is_not_answered_from_its_old_embedding(
    encoder: CountingEncoder, decoded: list[object]
) -> None:
    photo = another_profile(Image.new("RGB", (8, 6), (200, 0, 0)))
    digest = hashlib.sha256(photo).hexdigest()
    engine = engine_of(encoder)
    old = np.zeros((TOKENS, WIDTH), np.float32)
    ArrayCache("fingerprint", old.shape, np.float32).put(digest, old)
    first = engine.look(photo)
    assert (first.tokens_ND > 0).all()
    again = engine_of(encoder).look(photo)
    assert again.tokens_ND.tobytes() == first.tokens_ND.tobytes()
    assert (encoder.asked, len(decoded)) == (1, 1)


def test_an_ordinary_picture_is_answered_from_the_embedding_of_earlier_versions(
    encoder: CountingEncoder, tmp_path: Path
) -> None:
    grey(7).save(tmp_path / "photo.png")
    old = np.full((TOKENS, WIDTH), 3, np.float32)
    digest = hashlib.sha256((tmp_path / "photo.png").read_bytes()).hexdigest()
    ArrayCache("fingerprint", old.shape, np.float32).put(digest, old)
    assert (engine_of(encoder).look(tmp_path / "photo.png").tokens_ND == 3).all()
    assert encoder.asked == 0


def test_a_picture_that_is_cut_off_is_encoded_once_and_always_said_to_be_so(
    encoder: CountingEncoder, tmp_path: Path
) -> None:
    grey(7).save(tmp_path / "photo.jpg")
    whole = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(whole[:-2])
    for _ in range(2):
        picture = attachment(str(tmp_path / "photo.jpg")).open()
        assert "cut off" in picture.info.notices[0]
        engine_of(encoder).look(picture)
        engine_of(encoder).look(tmp_path / "photo.jpg")
    assert encoder.asked == 1
