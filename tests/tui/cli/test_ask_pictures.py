"""`minigpt4 ask -i` with pictures as people have them: odd ones are answered, others called what they are."""

from __future__ import annotations

import json
import struct
import subprocess
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

pytestmark = pytest.mark.usefixtures("mini_home")

ASK = ("ask", "--each", "--json", "--greedy", "--max-tokens", "12")
QUESTION = "What is in this picture?"
CUT_OFF = "The file is cut off; the picture is used as far as it goes."


def linear_profile() -> bytes:
    """sRGB with a linear curve: the same colors are other numbers, 60 levels darker in the middle."""
    whole = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(int.from_bytes(whole[128:132])):
        tag, start, _ = struct.unpack_from(">4sII", whole, 132 + 12 * number)
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            # A parametric curve, y = x ** 1.
            struct.pack_into(">4sIHHi", whole, start, b"para", 0, 0, 0, 65536)
    return bytes(whole)


def stored_in(profile: bytes, image: Image.Image) -> Image.Image:
    """The same colors as numbers of another profile."""
    other = ImageCms.ImageCmsProfile(BytesIO(profile))
    converted = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), other)
    assert converted is not None
    return converted


def grey_png_of_sixteen_bits(grey: Image.Image, opacity: Image.Image) -> bytes:
    """Pillow writes none with transparency."""
    values = np.stack([np.asarray(grey), np.asarray(opacity)], axis=-1).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", *grey.size, 16, 4, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.fixture
def coffee(examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    """A photo, in whose place the working folder holds the pictures of a test."""
    monkeypatch.chdir(tmp_path)
    return Image.open(examples / "coffee.jpg").convert("RGB")


def answers(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {record["images"][0]: record for record in map(json.loads, done.stdout.splitlines())}


def test_odd_pictures_are_answered_like_plain_ones(run_minigpt4, coffee: Image.Image) -> None:
    coffee.save("plain.png")
    profile = linear_profile()
    stored_in(profile, coffee).save("profile.png", icc_profile=profile)
    assert abs(np.asarray(Image.open("profile.png")).astype(int) - np.asarray(coffee)).mean() > 20
    coffee.save("broken-profile.png", icc_profile=profile[:300])

    disc = Image.radial_gradient("L").resize(coffee.size).point(lambda level: 255 if level < 180 else 0)
    grey = coffee.convert("L")
    Path("grey16.png").write_bytes(grey_png_of_sixteen_bits(grey, disc))
    on_white = Image.new("L", coffee.size, 255)
    on_white.paste(grey, mask=disc)
    on_white.save("grey.png")

    buffer = BytesIO()
    coffee.save(buffer, "JPEG", quality=95)
    Path("whole.jpg").write_bytes(buffer.getvalue())
    Path("no-end.jpg").write_bytes(buffer.getvalue()[:-2])

    pairs = {
        "broken-profile.png": "plain.png",
        "grey16.png": "grey.png",
    }
    like = ("plain.png", "profile.png", "whole.jpg", "no-end.jpg")
    images = [part for name in dict.fromkeys((*like, *pairs, *pairs.values())) for part in ("-i", name)]
    done = run_minigpt4(*ASK, *images, QUESTION)
    assert done.returncode == 0, done.stderr
    found = answers(done)
    for odd, plain in pairs.items():
        assert found[odd]["answer"] == found[plain]["answer"], odd
    # These differ by a rounding or by their last pixels, and mini is undecided between two right answers.
    assert {found[name]["answer"] for name in like} <= {"A cup of coffee.", "A cup."}
    assert found["no-end.jpg"]["notices"] == [f"no-end.jpg: {CUT_OFF}"]
    assert f"no-end.jpg: {CUT_OFF}" in done.stderr
    assert "The color profile cannot be read" in found["broken-profile.png"]["notices"][0]
    assert [found[name]["notices"] for name in ("profile.png", "grey16.png", "whole.jpg")] == [[]] * 3


def test_what_is_no_picture_is_called_what_it_is_and_the_others_are_answered(
    run_minigpt4, coffee: Image.Image
) -> None:
    coffee.save("good.png")
    avif = BytesIO()
    coffee.save(avif, "AVIF")
    files = {
        "cut.avif": (avif.getvalue()[: len(avif.getvalue()) // 2], "a damaged AVIF"),
        "raw.cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99), "a camera raw (Canon CR3)"),
        "page.jpg": (b"<!DOCTYPE html><html><svg></svg>404</html>", "a web page, not a picture"),
        "x.svg": (b"<?xml version='1.0'?><!--" + b"x" * 600 + b"--><svg/>", "an SVG drawing"),
        "scan.png": (b"%PDF-1.7\n" + bytes(99), "a PDF"),
        "link.url": (b"[InternetShortcut]\r\nURL=https://example.org", "a shortcut to a web address"),
    }
    for name, (content, _) in files.items():
        Path(name).write_bytes(content)
    images = [part for name in (*files, "good.png") for part in ("-i", name)]
    done = run_minigpt4(*ASK, *images, QUESTION)
    assert done.returncode == 1
    assert list(answers(done)) == ["good.png"]
    lines = done.stderr.splitlines()
    for line, (name, (_, kind)) in zip(lines, files.items(), strict=False):
        assert line.startswith(f"minigpt4: '{name}' is {kind}")
