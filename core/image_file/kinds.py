"""Descriptions of files that cannot be opened as images, for the user who took them for images."""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

from PIL import TiffImagePlugin
from PIL.ExifTags import Base as Tag

from minigpt4.core.image_file.formats import DECODER_ERRORS

UNKNOWN = "not a picture, or damaged; JPEG, PNG, WebP, GIF, BMP and TIFF can be read"

CONVERT = "save it as JPEG or PNG first"
HEIC = f"a HEIC photo; {CONVERT}"
VIDEO = "a video; save one frame of it as JPEG or PNG"
SOUND = "an audio recording, not a picture"
JPEG_XL = f"a JPEG XL image; {CONVERT}"
SVG = "an SVG drawing; save it as PNG first"
WEB_PAGE = "a web page, not a picture; save the picture itself"
ARCHIVE = "archive; take the picture out of it first"
OFFICE = "an office document; save the picture in it as JPEG or PNG first"
EMPTY_ZIP = "an empty ZIP archive"
OFFICE_OR_ZIP = f"an office document or a ZIP {ARCHIVE}"
JSON = "a JSON text, not a picture; save the picture itself"
XML = "an XML file, not a picture"
TEXT = "a text, not a picture"
ADDRESS = "a text with a web address, not a picture; give the address itself"
ENCODED = "a picture as base64 text; decode it first"
NOTES = (
    "macOS's notes about a file (its name begins with ._), not the picture; give the file of the same name"
)
POSTSCRIPT = "a PostScript drawing, not a picture; save it as PNG first"
METAFILE = "a Windows metafile; save it as PNG first"
LFS_POINTER = "a Git LFS pointer, not the picture; fetch that with `git lfs pull`"
LINK = "a Windows shortcut to a file, not a picture; give the file itself"
SHORTCUT = "a shortcut to a web address, not a picture; save the picture itself"

NOT_VISUAL = frozenset(
    (UNKNOWN, SOUND, WEB_PAGE, OFFICE, OFFICE_OR_ZIP, EMPTY_ZIP, JSON, XML, TEXT, ADDRESS, ENCODED)
) | {NOTES, LFS_POINTER, SHORTCUT, LINK}
"""Kinds that nobody takes for a picture unless they are named like one; archives are treated likewise."""


def _damaged(name: str) -> str:
    return f"a damaged {name}, or of a rare kind; fetch it again or save it anew as JPEG or PNG"


def _raw(maker: str = "") -> str:
    return f"a camera raw{maker and f' ({maker})'}; {CONVERT}"


BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), _damaged("AVIF")),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), HEIC),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P ", b"F4A "), SOUND),
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jpm "), _damaged("JPEG 2000")),
    b"jxl ": JPEG_XL,
    b"crx ": _raw("Canon CR3"),
}
"""Brands of the ISO base media file format (ISO/IEC 14496-12), which photos share with videos."""

IMAGE_CONTAINERS = (b"mif1", b"msf1", b"miaf")
"""Generic image brands; the compatible brands tell the codec."""

SIGNATURES = (
    (0, b"\xff\xd8\xff", _damaged("JPEG")),
    (0, b"\x89PNG", _damaged("PNG")),
    (0, b"GIF8", _damaged("GIF")),
    (8, b"WEBP", _damaged("WebP")),
    (4, b"jP  \r\n", _damaged("JPEG 2000")),
    (4, b"JXL \r\n", JPEG_XL),
    (0, b"\xff\x0a", JPEG_XL),
    (0, b"II\x1a\0\0\0HEAPCCDR", _raw("Canon CRW")),
    (0, b"IIRO", _raw("Olympus ORF")),
    (0, b"IIRS", _raw("Olympus ORF")),
    (0, b"MMOR", _raw("Olympus ORF")),
    (0, b"IIU\0", _raw("Panasonic RW2")),
    (0, b"FUJIFILMCCD-RAW", _raw("Fujifilm RAF")),
    (0, b"FOVb", _raw("Sigma X3F")),
    (0, b"\0MRM", _raw("Minolta MRW")),
    (0, b"8BPS", f"a Photoshop file; {CONVERT}"),
    (0, b"gimp xcf", f"a GIMP file; {CONVERT}"),
    (0, b"v/1\x01", f"an OpenEXR image; {CONVERT}"),
    (0, b"#?RADIANCE", f"a Radiance HDR image; {CONVERT}"),
    (0, b"DDS ", f"a DDS texture; {CONVERT}"),
    (0, b"qoif", f"a QOI image; {CONVERT}"),
    (0, b"icns", f"a macOS icon; {CONVERT}"),
    (128, b"DICM", f"a DICOM scan; {CONVERT}"),
    (0, b"SIMPLE  =", f"a FITS image; {CONVERT}"),
    (0, b"%!PS", POSTSCRIPT),
    (0, b"\xc5\xd0\xd3\xc6", POSTSCRIPT),
    (0, b"\xd7\xcd\xc6\x9a", METAFILE),
    (40, b" EMF\0\0\1\0", METAFILE),
    (4, b"moov", VIDEO),
    (4, b"mdat", VIDEO),
    (4, b"wide", VIDEO),
    (8, b"AVI ", VIDEO),
    (0, b"\x1aE\xdf\xa3", VIDEO),
    (0, b"FLV\x01", VIDEO),
    (0, b"\0\0\1\xba", VIDEO),
    (0, b"\0\0\1\xb3", VIDEO),
    (0, b"0&\xb2u\x8ef\xcf\x11", VIDEO),
    (8, b"WAVE", SOUND),
    (0, b"ID3", SOUND),
    (0, b"\xff\xfb", SOUND),
    (0, b"fLaC", SOUND),
    (0, b"OggS", SOUND),
    (0, b"PK\3\4", OFFICE_OR_ZIP),
    (0, b"PK\5\6", EMPTY_ZIP),
    (0, b"\xd0\xcf\x11\xe0", OFFICE),
    (0, b"\x1f\x8b", f"a gzip {ARCHIVE}"),
    (0, b"Rar!", f"a RAR {ARCHIVE}"),
    (0, b"7z\xbc\xaf", f"a 7z {ARCHIVE}"),
    (0, b"BZh", f"a bzip2 {ARCHIVE}"),
    (0, b"\xfd7zXZ\0", f"an xz {ARCHIVE}"),
    (0, b"\x28\xb5\x2f\xfd", f"a Zstandard {ARCHIVE}"),
    (257, b"ustar", f"a tar {ARCHIVE}"),
    (0, b"\0\5\x16\7\0\2\0\0", NOTES),
    (0, b"L\0\0\0\1\x14\2\0", LINK),
)
"""Offset and first bytes of damaged pictures, and of files that people take for pictures."""

TEXTS = (
    (re.compile(rb"version https://git-lfs"), LFS_POINTER),
    (re.compile(rb"\[InternetShortcut\]|\[Desktop Entry\].*^URL=", re.DOTALL | re.MULTILINE), SHORTCUT),
    (re.compile(rb"https?://\S+\s*\Z", re.IGNORECASE), ADDRESS),
    # The first bytes of JPEG, PNG, GIF and WebP.
    (re.compile(rb"data:image/[\w.+-]+;base64,|/9j/|iVBORw0KGgo|R0lGODl?h?|UklGR"), ENCODED),
    (re.compile(rb"From: <Saved by "), WEB_PAGE),
    (re.compile(rb"(?:\{|\[)\s*(?:[\[{\]}\"]|-?\d|true|false|null)"), JSON),
)
"""Beginnings of texts. Browsers write `.mht`, a web page in one file, like a mail."""

ICON_OR_PNM = re.compile(rb"\x00\x00\x01\x00|P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d")
"""Beginnings of images without a description above, as no damage keeps them from being opened."""

HEAD = 2**20
"""Bytes of a text that are searched for its first element."""

PROLOG = re.compile(
    rb"(?:\s++|<\?.*?\?>|<!--.*?-->|<!doctype\b(?:[^\[>]++|\[.*?\])*+>)*+", re.IGNORECASE | re.DOTALL
)
"""What may come before the first element of XML or HTML. Possessive, so that it takes linear time."""

ELEMENT = re.compile(rb"<(?:[\w.-]+:)?([a-z][\w.-]*)", re.IGNORECASE)

HTML_ELEMENTS = frozenset(
    b"html head body title base meta link script noscript style div p a img table form center span h1 h2 h3 "
    b"ul ol pre br hr b font section main header nav button iframe".split()
)

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

RAW_COMPRESSIONS = (32767, 32769, 32770, 34713, 34892, 65535)
"""TIFF compressions of Sony, packed, Samsung, Nikon, Adobe's lossy DNG, and Pentax."""

RAW_COLORS = (32803, 34892)
"""TIFF photometric interpretations of a color filter array and of linear raw values."""


def description(data: bytes) -> str:
    """What an unreadable file is, and what to do about it, to follow "X is" in a sentence."""
    return (
        _iso_media(data)
        or _tiff(data)
        or _svgz(data)
        or next((words for offset, mark, words in SIGNATURES if data.startswith(mark, offset)), None)
        or _pdf_or_bmp(data)
        or _text(data[:HEAD])
        or UNKNOWN
    )


def is_visual(head: bytes) -> bool:
    """Whether a file that begins so is an image, drawing, page or video, whole or damaged."""
    if ICON_OR_PNM.match(head):
        return True
    kind = description(head)
    return kind not in NOT_VISUAL and not kind.endswith(ARCHIVE)


def raw_description(data: bytes, tags: Mapping[int, Any]) -> str | None:
    """The description of a TIFF with these tags if it is a camera's raw file; None for any other.

    Pillow opens many of these as their first image, a thumbnail of 160 x 120 pixels.
    """
    if data[8:10] == b"CR":
        return _raw("Canon CR2")
    with suppress(*DECODER_ERRORS):  # damaged tags are read only now
        if Tag.DNGVersion in tags:
            return _raw("DNG")
        is_thumbnail = tags.get(Tag.NewSubfileType, 0) & 1 and Tag.SubIFDs in tags and Tag.Make in tags
        has_raw_colors = tags.get(Tag.PhotometricInterpretation) in RAW_COLORS
        if is_thumbnail or has_raw_colors or tags.get(Tag.Compression) in RAW_COMPRESSIONS:
            return _raw()
    return None


def _iso_media(data: bytes) -> str | None:
    if data[4:8] != b"ftyp":
        return None
    brand = data[8:12]
    if brand in IMAGE_CONTAINERS:
        end = min(int.from_bytes(data[:4]), 256)
        compatible = (data[at : at + 4] for at in range(16, end, 4))
        return next((BRANDS[one] for one in compatible if one in BRANDS), HEIC)
    return BRANDS.get(brand, VIDEO)


def _tiff(data: bytes) -> str | None:
    if not data.startswith(TIFF_SIGNATURES):
        return None
    is_big = 43 in data[2:4]
    with suppress(*DECODER_ERRORS):
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if is_big else 8])
        file = BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        if raw := raw_description(data, tags):
            return raw
    return _damaged("TIFF")


def _svgz(data: bytes) -> str | None:
    if not data.startswith(b"\x1f\x8b"):
        return None
    with suppress(zlib.error):
        if _text(zlib.decompressobj(wbits=31).decompress(data, HEAD)) == SVG:
            return SVG
    return None


def _pdf_or_bmp(data: bytes) -> str | None:
    # Readers accept a PDF's mark anywhere in its first 1024 bytes; two letters alone mark a BMP.
    if b"%PDF-" in data[:1024]:
        return "a PDF; save the page as JPEG or PNG first"
    return _damaged("BMP") if data[:2] == b"BM" and data[6:10] == bytes(4) else None


def _text(head: bytes) -> str | None:
    """Which markup or data format the text is, if it is one."""
    text = _as_utf8(head).lstrip()
    if words := next((words for mark, words in TEXTS if mark.match(text)), None):
        return words
    prolog = PROLOG.match(text)
    before = prolog[0].lower() if prolog else b""
    found = ELEMENT.match(text, len(before))
    element = found[1].lower() if found else b""
    if element in HTML_ELEMENTS or b"<!doctype html" in before:
        return WEB_PAGE
    if element == b"svg" or b"<!doctype svg" in before:
        return SVG
    if before.startswith(b"<?xml"):
        return SHORTCUT if element == b"plist" and b"<key>URL</key>" in text else XML
    return TEXT if _is_plain(text) else None


def _is_plain(text: bytes) -> bool:
    """Whether it has words in UTF-8 or ASCII, and none of the control characters of binary files."""
    try:
        words = text.decode()
    except UnicodeDecodeError as error:
        # The last character may have been cut in two.
        words = text[: error.start].decode() if len(text) - error.start < 4 else ""
    return " " in words and all(one.isprintable() or one in "\t\n\r\f" for one in words[:4096])


def _as_utf8(text: bytes) -> bytes:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if text.startswith(mark):
            return text[len(mark) :].decode(encoding, "ignore").encode()
    return text
