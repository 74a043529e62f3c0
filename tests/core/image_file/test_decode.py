"""A picture that is cut off is shown as far as it goes, and says so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFile

from minigpt4.core.errors import ImageError
from minigpt4.core.pixels import open_picture

SIZE = (320, 240)


def photo() -> Image.Image:
    """A picture with detail everywhere and nothing that looks like missing data."""
    grain = np.random.default_rng(0).integers(0, 60, (240, 320, 3), dtype=np.uint8)
    slope = np.linspace(20, 190, 320, dtype=np.uint8)[None, :, None]
    return Image.fromarray(grain + slope)


def encoded(form: str, **options: object) -> bytes:
    buffer = BytesIO()
    photo().save(buffer, form, **options)
    return buffer.getvalue()


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        open_picture(data, "It").image  # noqa: B018 (decodes)
    return str(caught.value)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_a_jpeg_without_its_end_mark_has_all_its_pixels(options: dict[str, object]) -> None:
    whole = encoded("JPEG", quality=95, **options)
    for cut in (1, 2):
        picture = open_picture(whole[:-cut])
        assert ImageChops.difference(picture.image, open_picture(whole).image).getbbox() is None
        assert picture.info.notices == ("The file is cut off; the picture is used as far as it goes.",)
        assert picture.missing == 0
        assert picture.whole_image is picture.image


def test_a_jpeg_without_its_end_mark_says_so_though_its_last_row_could_be_decoded() -> None:
    """libjpeg decodes some of these without complaint, which depends on the picture and the quality."""
    thumbnail = encoded("JPEG", quality=10)
    for quality in (50, 75, 90, 95):
        buffer = BytesIO()
        Image.linear_gradient("L").save(buffer, "JPEG", quality=quality, comment=thumbnail)
        whole = buffer.getvalue()
        intact = open_picture(whole)
        assert (intact.image.size, intact.info.notices, intact.missing) == ((256, 256), (), None)
        for cut in (1, 2):
            picture = open_picture(whole[:-cut])
            assert ImageChops.difference(picture.image, open_picture(whole).image).getbbox() is None
            assert picture.info.notices == ("The file is cut off; the picture is used as far as it goes.",)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_without_its_last_bytes_keeps_its_first_rows(mode: str) -> None:
    buffer = BytesIO()
    photo().convert(mode).save(buffer, "JPEG", quality=95)
    whole = buffer.getvalue()
    picture = open_picture(whole[: len(whole) * 7 // 10])
    assert picture.image.size == picture.info.size == SIZE
    upper = (0, 0, 320, 140)
    assert (
        ImageChops.difference(picture.image.crop(upper), open_picture(whole).image.crop(upper)).getbbox()
        is None
    )
    (notice,) = picture.info.notices
    assert notice.startswith("The file is cut off; its last rows are missing (")
    assert picture.missing == pytest.approx(0.3, abs=0.1)
    with pytest.raises(ImageError, match=r"% of the picture is missing"):
        picture.whole_image  # noqa: B018 (raises)


def test_a_progressive_jpeg_is_coarser_instead() -> None:
    whole = encoded("JPEG", quality=95, progressive=True)
    cut_at = [len(whole) * part // 20 for part in range(8, 20)]
    tables = [place for place in range(len(whole)) if whole.startswith(b"\xff\xc4", place)][3:]
    for end in cut_at + [place + 5 for place in tables]:
        picture = open_picture(whole[:end])
        difference = np.asarray(ImageChops.difference(picture.image, photo())).mean()
        assert difference < 25
        assert picture.info.notices[0].startswith("The file is cut off; ")


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "PPM"])
def test_other_formats_keep_their_first_rows_too(form: str) -> None:
    whole = encoded(form)
    picture = open_picture(whole[: len(whole) * 8 // 10])
    upper = (0, 0, 320, 120)
    assert (
        ImageChops.difference(picture.image.crop(upper), open_picture(whole).image.crop(upper)).getbbox()
        is None
    )
    assert picture.info.notices[0].startswith("The file is cut off; its last rows are missing (")


def test_a_bmp_lacks_its_first_rows_as_it_is_stored_from_the_bottom() -> None:
    whole = encoded("BMP")
    picture = open_picture(whole[: len(whole) * 8 // 10])
    assert picture.image.getpixel((3, 239)) == photo().getpixel((3, 239))
    assert picture.info.notices == ("The file is cut off; its first rows are missing (20% of the picture).",)


def test_a_cut_photo_is_turned_upright_like_a_whole_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded("JPEG", quality=95, exif=exif)
    picture = open_picture(whole[: len(whole) * 9 // 10])
    assert picture.image.size == picture.info.size == (240, 320)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_a_picture_of_which_nearly_nothing_is_left_is_refused_in_plain_words(form: str) -> None:
    whole = encoded(form)
    for part in (0.05, 0.2):
        message = refused(whole[: int(len(whole) * part)])
        assert "damaged" in message
        assert "bytes" not in message
        assert "truncated" not in message


def test_a_jpeg_that_ends_with_its_header_is_refused() -> None:
    whole = encoded("JPEG")
    assert "damaged or cut off" in refused(whole[: whole.index(b"\xff\xda") + 14])


def test_a_whole_file_with_bytes_after_its_end_needs_no_notice() -> None:
    assert open_picture(encoded("JPEG") + bytes(5000)).info.notices == ()
    picture = open_picture(encoded("JPEG") + b"SEFT" * 20)
    assert (picture.image.size, picture.info.notices, picture.missing) == (SIZE, (), None)


def test_cut_files_are_decoded_beside_whole_ones_in_other_threads() -> None:
    """The switch of Pillow that allows cut files would hold for all threads."""
    whole = encoded("JPEG", quality=95)
    files = [whole, whole[:-2]] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda data: (open_picture(data).image, ImageFile.LOAD_TRUNCATED_IMAGES), files)
        )
    assert not any(switch for _, switch in found)
