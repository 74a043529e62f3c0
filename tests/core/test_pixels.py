"""Picture files of every kind become upright RGB on white, or one sentence."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from minigpt4.core.errors import ImageError
from minigpt4.core.image_file.header import MAX_PIXELS, PictureInfo
from minigpt4.core.pixels import open_picture, to_pixels

RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)
ORIENTATION = 0x0112


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises any number of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_photo_keeps_its_size_name_and_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (30, 20), RED), tmp_path / "holiday.png")
    picture = open_picture(path)
    assert (picture.image.mode, picture.image.size, picture.name) == ("RGB", (30, 20), "holiday.png")
    assert picture.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.info == PictureInfo((30, 20), "PNG")


def test_bytes_and_their_file_are_the_same_picture(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (3, 2), BLUE), tmp_path / "a.png")
    assert open_picture(path.read_bytes()).digest == open_picture(str(path)).digest


def test_a_picture_already_open_is_taken_as_it_is() -> None:
    picture = open_picture(Image.new("L", (4, 4)), "square")
    assert picture.name == "square"
    assert open_picture(picture) is picture


def test_images_in_memory_differ_in_digest_when_their_pixels_do() -> None:
    assert (
        open_picture(Image.new("RGB", (2, 2), RED)).digest
        != open_picture(Image.new("RGB", (2, 2), BLUE)).digest
    )


def test_images_in_memory_differ_in_digest_when_only_their_palettes_do() -> None:
    red, blue = (Image.new("P", (2, 2), 0) for _ in range(2))
    red.putpalette(RED)
    blue.putpalette(BLUE)
    assert open_picture(red).digest != open_picture(blue).digest


def test_nothing_is_decoded_until_the_pixels_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda file: decoded.append(file) or load(file))
    for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        picture = open_picture(encoded(Image.new("RGB", (9, 6), RED), form))
        assert (picture.info.size, picture.info.format) == ((9, 6), form)
        assert decoded == []
        assert picture.image is picture.image
        assert len(set(map(id, decoded))) == 1
        decoded.clear()


def test_capitals_in_the_ending_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "DSC_0001.JPG"
    path.write_bytes(encoded(Image.new("RGB", (8, 8), RED), "JPEG"))
    assert open_picture(path).image.size == (8, 8)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 20_000)])
def test_odd_shapes_are_squashed_to_the_towers_square(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = open_picture(saved(Image.new("RGB", size, RED), tmp_path / "odd.png"))
    pixels = to_pixels(picture.image, 26, (0, 0, 0), (1, 1, 1))
    assert pixels.shape == (3, 26, 26)
    assert np.allclose(pixels[0], 1)
    assert np.allclose(pixels[1:], 0)


def test_pixels_are_scaled_shifted_and_divided_by_channel() -> None:
    pixels = to_pixels(Image.new("RGB", (5, 5), (255, 0, 51)), 2, (0.5, 0.25, 0.2), (0.5, 0.25, 0.1))
    assert pixels.dtype == np.float32
    assert pixels.flags["C_CONTIGUOUS"]
    assert np.allclose(pixels[:, 0, 0], [1, -1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 128, (128, 128, 128)),
        ("1", 1, WHITE),
        ("CMYK", (0, 255, 255, 0), RED),
        ("YCbCr", (255, 128, 128), WHITE),
    ],
)
def test_other_colour_forms_become_rgb(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    path = saved(Image.new(mode, (4, 4), colour), tmp_path / "picture.tif")
    assert open_picture(path).image.getpixel((1, 1)) == expected


def test_a_cmyk_jpeg_is_not_shown_as_its_negative(tmp_path: Path) -> None:
    path = saved(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), tmp_path / "print.jpg")
    assert min(open_picture(path).image.getpixel((8, 8))) > 250


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, ending: str) -> None:
    ramp = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    path = saved(Image.fromarray(ramp), tmp_path / f"scan.{ending}")
    greys = np.asarray(open_picture(path).image)[0, :, 0]
    assert greys.tolist() == [0, 1, 128, 255]


def test_wider_grey_values_are_stretched(tmp_path: Path) -> None:
    fractions = saved(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), tmp_path / "f.tif")
    heights = saved(Image.fromarray(np.array([[-100, 0, 100]], np.float32)), tmp_path / "h.tif")
    for path in (fractions, heights):
        assert np.asarray(open_picture(path).image)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_lies_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    if mode == "P":
        path = saved(image.quantize(), tmp_path / "clear.png")
    elif mode == "PA":
        path = saved(image, tmp_path / "clear.webp", lossless=True)
    else:
        path = saved(image.convert(mode), tmp_path / "clear.png")
    flat = open_picture(path).image
    assert flat.getpixel((0, 0)) == (0, 0, 0)
    assert flat.getpixel((3, 0)) == WHITE


def test_a_colour_key_counts_as_transparency(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (2, 2), BLUE), tmp_path / "key.png", transparency=BLUE)
    assert open_picture(path).image.getpixel((0, 0)) == WHITE


def test_half_transparent_black_is_grey(tmp_path: Path) -> None:
    path = saved(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), tmp_path / "glass.png")
    assert open_picture(path).image.getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame_and_says_so(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE, WHITE)]
    path = saved(
        frames[0], tmp_path / f"moving.{ending}", save_all=True, append_images=frames[1:], duration=80
    )
    picture = open_picture(path)
    red, green, blue = picture.image.getpixel((4, 4))
    assert red > 200
    assert max(green, blue) < 60
    assert picture.info.notices == ("The picture is animated (3 frames); its first frame is used.",)


def test_a_still_gif_needs_no_notice(tmp_path: Path) -> None:
    assert open_picture(saved(Image.new("P", (8, 8)), tmp_path / "still.gif")).info.notices == ()


def test_pages_of_a_tiff_are_named(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8)) for _ in range(2)]
    path = saved(pages[0], tmp_path / "fax.tif", save_all=True, append_images=pages[1:])
    assert open_picture(path).info.notices == ("The file holds 2 pages; the first is used.",)


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), WHITE)
    image.paste(RED, (0, 0, 10, 20))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was turned: rotate clockwise to view
    upright = open_picture(saved(image, tmp_path / "phone.png", exif=exif)).image
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 2)) == RED
    assert upright.getpixel((10, 38)) == WHITE


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_the_size_from_the_header_is_that_of_the_upright_picture(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = open_picture(saved(Image.new("RGB", (40, 20)), tmp_path / f"phone.{ending}", exif=exif))
    reported = picture.info.size
    assert reported == picture.image.size == ((20, 40) if orientation > 4 else (40, 20))


def test_notes_behind_a_pngs_pixels_are_found_too() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(Image.new("RGB", (40, 20)), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    late = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert open_picture(late).info.size == open_picture(late).image.size == (20, 40)


@pytest.mark.filterwarnings("error")
def test_broken_rotation_notes_do_not_cost_the_picture(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (8, 4), RED), tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_picture(path).image.size == (8, 4)


def test_a_rotation_that_cannot_be_read_is_reported() -> None:
    notes = PngInfo()
    notes.add_text("Raw profile type exif", "\nexif\n       2\nno hexadecimal digits")
    picture = open_picture(encoded(Image.new("RGB", (8, 4), RED), "PNG", pnginfo=notes))
    assert picture.image.size == picture.info.size == (8, 4)
    assert picture.info.notices == (
        "The note about the camera's rotation cannot be read; the picture is used as stored.",
    )


def refused(source: Path | bytes) -> str:
    """The sentence it is refused with, held to the form that all of them share."""
    with pytest.raises(ImageError) as caught:
        open_picture(source).image  # noqa: B018 (decodes)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.jpg") == f"There is no file '{tmp_path / 'none.jpg'}'; check the path."


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


def test_a_device_is_not_read_for_ever() -> None:
    assert "is a device" in refused(Path("/dev/zero"))


def test_a_path_below_a_file_and_one_no_system_allows_are_sentences(tmp_path: Path) -> None:
    file = saved(Image.new("RGB", (2, 2)), tmp_path / "a.png")
    assert "cannot be read" in refused(file / "b.png")
    assert "too long" in refused(tmp_path / ("n" * 300)).lower()
    refused(Path("a\0b.png"))


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (2, 2)), tmp_path / "private.png")
    path.chmod(0)
    if os.geteuid() != 0:
        assert "may not be read" in refused(path)
        return
    # Root may read everything, so a child gives that up first.
    tmp_path.chmod(0o755)
    code = (
        "import os; from minigpt4.core.pixels import open_picture, Image; Image.init()\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "open_picture('private.png')"
    )
    child = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "'private.png' may not be read by this user; change its permissions." in child.stderr


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert "is empty (0 bytes)" in refused(tmp_path / "empty.jpg")


def test_a_bomb_is_refused_by_its_header() -> None:
    assert "too large: 10000 x 10000 pixels" in refused(png_claiming(10_000, 10_000))
    assert "too large" in refused(png_claiming(60_000, 60_000))
    assert MAX_PIXELS < 10_000 * 10_000


@pytest.mark.filterwarnings("error")
def test_the_largest_allowed_size_gives_no_warning() -> None:
    assert "damaged" in refused(png_claiming(9_459, 9_459))  # its pixels are missing, its size is fine


PNG = encoded(Image.new("RGB", (9, 9), RED), "PNG")
JPEG = encoded(Image.new("RGB", (9, 9), RED), "JPEG")
GIF = encoded(Image.new("P", (9, 9)), "GIF")
TIFF = encoded(Image.new("RGB", (9, 9), RED), "TIFF")


@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from([PNG, JPEG, GIF, TIFF]),
    damage=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 2_000),
)
def test_damage_gives_a_picture_or_a_sentence(data: bytes, damage: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(data)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    try:
        assert isinstance(open_picture(bytes(damaged[:cut])).image, Image.Image)
    except ImageError as error:
        assert "\n" not in str(error)


def test_opening_pictures_does_not_import_torch() -> None:
    code = "import sys, minigpt4.core.pixels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
