"""A file that is no picture is called what it is, whatever its name and however long its head."""

from __future__ import annotations

import gzip
import struct
from io import BytesIO

import pytest
from PIL import Image

from minigpt4.core.errors import ImageError
from minigpt4.core.image_file.kinds import TEXT, UNKNOWN, description, is_visual
from minigpt4.core.pixels import open_picture


def called(data: bytes) -> str:
    """What opening the file calls it."""
    with pytest.raises(ImageError) as caught:
        open_picture(data, "It").image  # noqa: B018 (decodes)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message.removeprefix("It is ")


def iso_media(brand: bytes, *compatible: bytes) -> bytes:
    box = b"ftyp" + brand + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", len(box) + 4) + box + bytes(99)


def encoded(form: str, **options: object) -> bytes:
    buffer = BytesIO()
    Image.radial_gradient("L").convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


def tiff(**tags: tuple[int, int]) -> bytes:
    """A TIFF of 8 x 8 grey pixels with further tags, each given as (number, value)."""
    entries = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 500, 277: 1, 278: 8, 279: 64} | dict(
        tags.values()
    )
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    directory = struct.pack("<H", len(entries)) + body + bytes(4)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(500, b"\0") + bytes(64)


@pytest.mark.parametrize("form", ["AVIF", "WEBP", "JPEG", "PNG", "GIF", "BMP", "JPEG2000"])
def test_a_picture_without_its_first_part_is_called_damaged(form: str) -> None:
    whole = encoded(form)
    name = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}.get(form, form)
    assert called(whole[:24]).startswith(f"a damaged {name}")


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_cut_avif_is_not_called_a_video(part: float) -> None:
    whole = encoded("AVIF")
    assert "damaged" in called(whole[: int(len(whole) * part)])
    assert "video" not in called(whole[: int(len(whole) * part)])


@pytest.mark.parametrize(
    ("brand", "compatible", "expected"),
    [
        (b"heic", (), "a HEIC photo"),
        (b"mif1", (b"mif1", b"heic"), "a HEIC photo"),
        (b"mif1", (b"mif1", b"avif"), "a damaged AVIF"),
        (b"crx ", (b"crx ", b"isom"), "a camera raw (Canon CR3); save it as JPEG"),
        (b"jxl ", (), "a JPEG XL"),
        (b"isom", (b"mp41",), "a video"),
        (b"qt  ", (), "a video"),
        (b"M4A ", (b"mp42",), "an audio recording"),
    ],
)
def test_files_that_begin_alike_are_told_apart_by_their_brand(
    brand: bytes, compatible: tuple[bytes, ...], expected: str
) -> None:
    assert called(iso_media(brand, *compatible)).startswith(expected)


@pytest.mark.parametrize(
    "data",
    [
        b"II*\0\x10\0\0\0CR\2\0" + bytes(200),
        tiff(version=(50706, 0x401)),
        tiff(colors=(262, 32803)),
        tiff(compression=(259, 34713)),
        tiff(thumbnail=(254, 1), make=(271, 500), others=(330, 400)),
        b"FUJIFILMCCD-RAW 0201" + bytes(200),
        b"IIRO\x08\0\0\0" + bytes(200),
        b"IIU\0\x18\0\0\0" + bytes(200),
        b"II\x1a\0\0\0HEAPCCDR" + bytes(200),
    ],
)
def test_a_camera_raw_is_called_one_also_if_its_thumbnail_could_be_opened(data: bytes) -> None:
    assert called(data).startswith("a camera raw")


def test_a_plain_tiff_is_not_taken_for_a_camera_raw() -> None:
    assert open_picture(tiff(make=(271, 500))).image.size == (8, 8)


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE html><html><svg></svg>404</html>",
        "\n  <!-- saved --><HTML lang=en><body>no quotes",
        "<!DOCTYPE HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'>\n<title>Moved",
        "<?xml version='1.0'?><!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'/>",
        "<script>location = '/'</script>",
        "<!doctype html><svg></svg>",
        "<noscript>Turn JavaScript on</noscript>",
        "From: <Saved by Blink>\nSnapshot-Content-Location: https://example.org/\nMIME-Version: 1.0\n",
        "<!--" + "x" * 5000 + "--><head><title>Sign in</title>",
    ],
)
def test_a_web_page_is_called_one_even_with_a_drawing_in_it(text: str) -> None:
    for data in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        assert called(data).startswith("a web page, not a picture")


@pytest.mark.parametrize(
    "text",
    [
        "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "<?xml version='1.0'?>\n<!--" + "x" * 200_000 + "-->\n<svg xmlns='http://www.w3.org/2000/svg'/>",
        "<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'svg11.dtd' [<!ENTITY a 'b>c'>]>\n<svg></svg>",
        "<?xml version='1.0'?><?xml-stylesheet href='a.css'?><svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>",
        " " * 2000 + "<svg/>",
    ],
)
def test_a_drawing_is_called_one_however_long_its_head(text: str) -> None:
    for data in (text.encode(), text.encode("utf-16"), gzip.compress(text.encode())):
        assert called(data).startswith("an SVG drawing")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"%PDF-1.7 ...", "a PDF"),
        (b"\r\n\r\n%PDF-1.4 after empty lines", "a PDF"),
        (b'{"error": "not found"}', "a JSON text"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML file"),
        (b"[InternetShortcut]\r\nURL=https://example.org/cat.jpg", "a shortcut to a web address"),
        (b"\xef\xbb\xbf[InternetShortcut]\nURL=https://example.org", "a shortcut to a web address"),
        (b"[Desktop Entry]\nType=Link\nURL=https://example.org", "a shortcut to a web address"),
        (b"<?xml version='1.0'?><plist><dict><key>URL</key></dict>", "a shortcut to a web address"),
        (b"L\0\0\0\1\x14\2\0" + bytes(60), "a Windows shortcut to a file"),
        (b"https://example.org/cat.jpg\n", "a text with a web address, not a picture; give the address"),
        (b"data:image/png;base64,iVBORw0KGgo=", "a picture as base64 text"),
        (b"/9j/4AAQSkZJRgABAQAAAQABAAD", "a picture as base64 text"),
        (b"{\\rtf1\\ansi some words}", "a text, not a picture"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(60), "macOS's notes about a file"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), "a Windows metafile"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), "a PostScript drawing"),
        (b"BZh91AY&SY" + bytes(60), "a bzip2 archive"),
        (b"PK\5\6" + bytes(18), "an empty ZIP archive."),
        (b"\xff\xfb\x90\0" + bytes(400), "an audio recording"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"PK\3\4" + bytes(60), "an office document or a ZIP archive"),
        (gzip.compress(b"words"), "a gzip archive"),
        (b"\x1aE\xdf\xa3" + bytes(60), "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"RIFF\0\0\0\0WAVEfmt ", "an audio recording"),
        (b"8BPS\0\1" + bytes(60), "a Photoshop file"),
        (("some wörds\n" * 40).encode(), "a text, not a picture"),
        (b"\0" * 4000, UNKNOWN),
        (b"some words \x00\x01\x02", UNKNOWN),
        ("some wörds".encode("latin-1"), UNKNOWN),
    ],
)
def test_other_files_are_called_what_they_are(data: bytes, expected: str) -> None:
    assert called(data).startswith(expected)


def test_a_head_without_an_end_takes_no_long_time() -> None:
    for text in (b"<!doctype " + b"[" * 200_000, b"<!--" * 200_000, b"<?" * 200_000, b"< " * 200_000):
        assert description(text) in (UNKNOWN, TEXT)


@pytest.mark.parametrize(
    "form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO"]
)
def test_the_head_of_an_image_is_known_as_one(form: str) -> None:
    assert is_visual(encoded(form)[:4096])


@pytest.mark.parametrize(
    "head",
    [
        iso_media(b"heic"),
        iso_media(b"crx "),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"\x1aE\xdf\xa3",
    ],
)
def test_what_a_person_looks_at_is_visual_though_it_cannot_be_read(head: bytes) -> None:
    assert is_visual(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"#!/bin/sh\n",
        b"P1 is the first of 2 priorities",
        b"<html><body>",
        b'{"a": 1}',
        b"PK\3\4",
        gzip.compress(b"text"),
        b"PK\5\6" + bytes(18),
        b"L\0\0\0\1\x14\2\0",
        b"\x7fELF",
    ],
)
def test_texts_programs_and_archives_are_not(head: bytes) -> None:
    assert not is_visual(head)
