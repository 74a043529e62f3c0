"""A color reaches the model as the same numbers, whatever profile, depth and transparency stores it."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from minigpt4.core.pixels import PIXELS_VERSION, Picture, open_picture

WHITE = (255, 255, 255)
D50 = (0.9642, 1.0, 0.8249)

SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
PRIMARIES = {
    "Display P3": (((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)), 2.2),
    "Adobe RGB": (((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)), 2.2),
    "ProPhoto": (((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)), 1.8),
    "linear": (SRGB_PRIMARIES, 1.0),
}
"""XYZ of red, green and blue under D50, and the exponent of the curve."""


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def icc(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    """An ICC profile (ICC.1:2001-04) with these tags."""
    text = b"test\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(79),
        b"wtpt": b"XYZ " + bytes(4) + fixed(*D50),
        **tags,
    }
    table, body = b"", b""
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += padded
    rest = struct.pack(">I", len(tags)) + table + body
    head = struct.pack(">I4xI4s4s4s12x4s28x", 128 + len(rest), 0x02400000, kind, space, b"XYZ ", b"acsp")
    return (head + fixed(*D50)).ljust(128, b"\0") + rest


def gamma(exponent: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256))


def rgb_profile(primaries: tuple[tuple[float, ...], ...], exponent: float) -> bytes:
    colors = {
        name: b"XYZ " + bytes(4) + fixed(*xyz)
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    }
    return icc(b"RGB ", colors | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(exponent)))


def grey_profile(exponent: float) -> bytes:
    return icc(b"GRAY", {b"kTRC": gamma(exponent)})


P3 = rgb_profile(*PRIMARIES["Display P3"])
LINEAR = rgb_profile(*PRIMARIES["linear"])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def stored_in(profile: bytes, image: Image.Image) -> Image.Image:
    """The same colors as numbers of another profile."""
    other = ImageCms.ImageCmsProfile(BytesIO(profile))
    converted = ImageCms.profileToProfile(image, SRGB, other, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert converted is not None
    return converted


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def colors() -> Image.Image:
    """Colors that every one of the profiles can store."""
    levels = np.array([60, 90, 120, 150, 180], np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(5, 25, 3))


def error(picture: Picture, image: Image.Image) -> float:
    """Greatest difference in levels."""
    return float(abs(np.asarray(picture.image).astype(int) - np.asarray(image.convert("RGB"))).max())


@pytest.mark.parametrize("name", PRIMARIES)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_color_is_the_same_in_every_profile(name: str, form: str) -> None:
    profile = rgb_profile(*PRIMARIES[name])
    options = {"lossless": True} if form == "WEBP" else {}
    picture = open_picture(encoded(stored_in(profile, colors()), form, icc_profile=profile, **options))
    assert error(picture, colors()) <= (6 if name == "linear" else 3)  # which 8 bits hold only roughly
    assert picture.info.notices == ()
    assert "icc_profile" not in picture.image.info


@pytest.mark.parametrize("form", ["JPEG", "AVIF"])
def test_photos_with_a_profile_are_converted_too(form: str) -> None:
    red = Image.new("RGB", (64, 64), (200, 30, 30))
    picture = open_picture(encoded(stored_in(P3, red), form, icc_profile=P3, quality=95))
    assert error(picture, red) <= 6


def test_an_image_in_memory_is_converted_as_well() -> None:
    assert (
        error(open_picture(Image.open(BytesIO(encoded(stored_in(P3, colors()), icc_profile=P3)))), colors())
        <= 3
    )


def test_a_picture_whose_profile_is_srgb_keeps_its_pixels_and_its_place_in_caches() -> None:
    plain = open_picture(encoded(colors()))
    tagged = open_picture(encoded(colors(), icc_profile=SRGB.tobytes()))
    assert plain.image.tobytes() == tagged.image.tobytes() == colors().tobytes()
    assert (plain.key, tagged.key) == (plain.digest, tagged.digest)


def test_a_converted_picture_has_another_key_than_its_pixels_had_before() -> None:
    picture = open_picture(encoded(colors(), icc_profile=P3))
    assert picture.key == f"{picture.digest}-{PIXELS_VERSION}"


def test_transparency_is_kept_while_colors_are_converted() -> None:
    layer = stored_in(P3, colors()).convert("RGBA")
    layer.putpixel((0, 0), (10, 20, 30, 0))
    expected = colors()
    expected.putpixel((0, 0), WHITE)
    assert error(open_picture(encoded(layer, icc_profile=P3)), expected) <= 3
    palette = stored_in(P3, Image.new("RGB", (4, 4), (200, 30, 30))).quantize()
    assert error(open_picture(encoded(palette, icc_profile=P3)), Image.new("RGB", (4, 4), (200, 30, 30))) <= 3


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16", "P"])
def test_grey_pictures_follow_a_grey_or_a_color_profile(mode: str) -> None:
    """Linear 0.5 is 188 in sRGB."""
    half = {"L": 128, "LA": (128, 255), "I;16": 32896, "1": 1, "P": 128}[mode]
    image = Image.new(mode, (4, 4), half)
    if mode == "P":
        image.putpalette([level for level in range(256) for _ in "rgb"])
    expected = 255 if mode == "1" else 188
    for profile in (grey_profile(1.0), LINEAR):
        if mode == "P" and profile != LINEAR:
            continue
        picture = open_picture(encoded(image, icc_profile=profile))
        assert picture.info.notices == ()
        assert picture.image.getpixel((1, 1)) == pytest.approx((expected,) * 3, abs=1)


def test_sixteen_bits_keep_their_precision_through_a_profile() -> None:
    dark = np.array([[0, 16, 40, 65, 100, 65535]], np.uint16)
    picture = open_picture(encoded(Image.fromarray(dark), icc_profile=grey_profile(1.0)))
    greys = np.asarray(picture.image)[0, :, 0].tolist()
    assert greys[:5] == pytest.approx([0, 1, 2, 3, 5], abs=3)
    assert greys[4] > greys[1]
    assert greys[5] == 255


def test_a_cmyk_profile_says_what_its_inks_look_like(tmp_path: Path) -> None:
    # Four inks in a table of two levels each: black ink alone counts.
    inks = b"".join(
        struct.pack(">BBB", *((0, 128, 128) if k else (255, 128, 128))) for _ in range(8) for k in (0, 1)
    )
    identity = bytes(range(256))
    table = (
        b"mft1"
        + bytes(4)
        + struct.pack(">BBBB", 4, 3, 2, 0)
        + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
        + identity * 4
        + inks
        + identity * 3
    )
    profile = bytearray(icc(b"CMYK", {b"A2B0": table, b"A2B1": table}, b"prtr"))
    profile[20:24] = b"Lab "
    for ink, expected in (((255, 255, 255, 0), WHITE), ((0, 0, 0, 255), (0, 0, 0))):
        data = encoded(Image.new("CMYK", (8, 8), ink), "TIFF", icc_profile=bytes(profile))
        picture = open_picture(data)
        assert picture.info.notices == ()
        assert picture.image.getpixel((2, 2)) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize(
    "profile",
    [b"no profile at all", P3[:200], P3[:-40], bytes(4000), P3.replace(b"mntr", b"link"), grey_profile(2.2)],
)
def test_a_broken_or_unfit_profile_leaves_the_colors_as_stored_and_says_so(profile: bytes) -> None:
    picture = open_picture(encoded(colors(), icc_profile=profile))
    assert picture.image.tobytes() == colors().tobytes()
    assert picture.key == picture.digest
    (notice,) = picture.info.notices
    assert notice == "The color profile cannot be read or does not fit; the colors are used as stored."


def test_lab_is_converted_with_and_without_its_profile() -> None:
    lab = ImageCms.createProfile("LAB")
    stored = ImageCms.profileToProfile(colors(), SRGB, lab, outputMode="LAB")
    assert stored is not None
    for profile in (b"", ImageCms.ImageCmsProfile(lab).tobytes()):
        picture = open_picture(encoded(stored, "TIFF", icc_profile=profile))
        assert error(picture, colors()) < 15  # eight bits of Lab are coarser than eight of sRGB
        assert picture.info.notices == ()


def test_a_jpeg_that_lacks_a_part_of_its_profile_is_used_as_stored() -> None:
    data = encoded(Image.new("RGB", (8, 8), (200, 30, 30)), "JPEG", icc_profile=P3 + bytes(100_000))
    start = data.index(b"ICC_PROFILE\0\2") - 4
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
    picture = open_picture(data[:start] + data[end:])
    assert picture.image.getpixel((4, 4)) == pytest.approx((200, 30, 30), abs=3)
    assert len(picture.info.notices) == 1


def png(depth: int, kind: int, row: bytes, width: int, clear: bytes) -> bytes:
    """A PNG of one row with a transparent color, which Pillow cannot write in all depths."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0)),
        (b"tRNS", clear),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    ]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(16, 0, struct.pack(">3H", 0, 300, 65535), 3, struct.pack(">H", 300)), [0, 255, 255]),
        (png(16, 0, struct.pack(">3H", 0, 300, 301), 3, struct.pack(">H", 0)), [255, 1, 1]),
        (png(8, 0, bytes([0, 9, 200]), 3, struct.pack(">H", 9)), [0, 255, 200]),
        (png(4, 0, b"\x03\xf0", 3, struct.pack(">H", 3)), [0, 255, 255]),
        (png(2, 0, b"\x10", 3, struct.pack(">H", 1)), [0, 255, 0]),
        (png(1, 0, b"\x40", 3, struct.pack(">H", 0)), [255, 255, 255]),
        (
            png(
                16,
                2,
                struct.pack(">9H", *[0] * 3, *[9000] * 3, *[30000] * 3),
                3,
                struct.pack(">3H", *[9000] * 3),
            ),
            [0, 255, 116],
        ),
    ],
)
def test_a_transparent_color_lies_on_white_in_every_depth(data: bytes, expected: list[int]) -> None:
    picture = open_picture(data)
    assert np.asarray(picture.image)[0, :, 0].tolist() == pytest.approx(expected, abs=1)


def test_sixteen_bits_with_a_channel_of_transparency_lie_on_white() -> None:
    values = struct.pack(">6H", 0, 65535, 0, 0, 32896, 65535)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 3, 1, 16, 4, 0, 0, 0)),
        (b"iCCP", b"a\0\0" + zlib.compress(grey_profile(1.0))),
    ]
    chunks += [(b"IDAT", zlib.compress(b"\0" + values)), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    picture = open_picture(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    assert picture.info.notices == ()
    assert np.asarray(picture.image)[0, :, 0].tolist() == pytest.approx([0, 255, 188], abs=1)


def test_a_grey_picture_of_sixteen_bits_without_transparency_keeps_its_key() -> None:
    picture = open_picture(encoded(Image.fromarray(np.array([[0, 65535]], np.uint16))))
    assert picture.key == picture.digest
    clear = open_picture(png(16, 0, struct.pack(">2H", 0, 300), 2, struct.pack(">H", 300)))
    assert clear.key != clear.digest
