import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import nasperc
from nasperc.data.image import FORMATS, images_by_stem, read_header, read_image, read_size, upright
from nasperc.data.image_rules import ImageRules
from nasperc.errors import InputError

APPLY = ImageRules(exif="apply")
# Lossless, so that pixels can be compared; JPEG by its own decoder's.
SUFFIXES = ("png", "jpg", "webp")


def oriented(file: Path, orientation: object, size: tuple[int, int] = (4, 6)) -> Path:
    """A random image of ``size`` (H, W) that carries an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, exif=exif.tobytes())
    return file


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(4, 6), (5, 5)])
def test_apply_shows_what_viewers_show(tmp_path, suffix, orientation, size):
    file = oriented(tmp_path / f"a.{suffix}", orientation, size)
    with Image.open(file) as picture:
        reference = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        stored = np.asarray(picture.convert("RGB"))
    assert read_header(file).orientation == orientation
    assert read_size(file, APPLY) == reference.shape[:2]
    assert np.array_equal(read_image(file, reference.shape[:2], APPLY).permute(1, 2, 0), reference)
    assert np.array_equal(upright(stored, orientation), reference)
    # By default nothing is turned, as before there was a choice.
    assert read_size(file) == size
    assert np.array_equal(read_image(file, size).permute(1, 2, 0), stored)


def test_the_annotations_size_is_that_of_the_picture_as_it_is_read(tmp_path):
    file = oriented(tmp_path / "a.jpg", 6)
    with pytest.raises(InputError, match=r"4x6 instead of 6x4.*data\.exif: ignore"):
        read_image(file, (4, 6), APPLY)
    with pytest.raises(InputError, match=r"6x4 instead of 4x6.*data\.exif: apply"):
        read_image(file, (6, 4))
    with pytest.raises(InputError, match=r"6x4 instead of 7x7.*Mend one of the two"):
        read_image(file, (7, 7))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_refuse_takes_upright_images_alone(tmp_path, suffix):
    refuse = ImageRules(exif="refuse")
    assert read_image(oriented(tmp_path / f"a.{suffix}", 1), rules=refuse).shape == (3, 4, 6)
    with pytest.raises(InputError, match="no image may carry an EXIF orientation, but got orientation 2 "):
        read_image(oriented(tmp_path / f"b.{suffix}", 2), rules=refuse)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0MM\0*\0\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        # An orientation of a million values, of which none are there.
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x40\x42\x0f\0\x08\0\0\0\0\0\0\0",
        # As text, of no meaning, out of range.
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0\0\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
        b"Exif\0\0" + b"\xff" * 60_000,
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_broken_block_says_nothing(tmp_path, block):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=block)
    for rules in (APPLY, ImageRules(), ImageRules(exif="refuse")):
        assert read_image(tmp_path / "a.jpg", (4, 6), rules).shape == (3, 4, 6)
    assert read_header(tmp_path / "a.jpg").orientation == 1


def test_headers_are_read_without_the_pixels(tmp_path):
    """Pillow's own getexif() decodes a PNG that has no block; this one's pixels are not there."""
    header = struct.pack(">IIBBBBB", 6, 4, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 50) + b"IDAT")
    assert read_header(tmp_path / "a.png") == ((4, 6), 1, False)
    with pytest.raises(InputError, match="must be readable"):
        read_image(tmp_path / "a.png", rules=APPLY)


@pytest.mark.parametrize("rules", [ImageRules(), APPLY])
def test_a_tiff_is_upright_whatever_the_rules(tmp_path, rules):
    """Its orientation is part of the format, and pillow applies it."""
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={0x0112: 3})
    image = read_image(tmp_path / "a.tif", (4, 6), rules).permute(1, 2, 0)
    assert np.array_equal(image, pixels[::-1, ::-1])
    assert read_header(tmp_path / "a.tif").orientation == 1


def test_images_are_opened_in_one_place_and_by_the_names_of_their_formats():
    root = Path(nasperc.__file__).parents[1]
    folders = ("controllers", "feature_cache", "nasperc", "proxy_tasks", "search_spaces")
    opened = [
        file.relative_to(root).as_posix()
        for folder in folders
        for file in (root / folder).rglob("*.py")
        if re.search(r"Image\.open\(|PIL.Image import open|imread\(|read_file\(", file.read_text("utf-8"))
    ]
    assert opened == ["nasperc/data/image.py"]
    assert "formats=FORMATS" in (root / opened[0]).read_text("utf-8")


@pytest.mark.parametrize("format", ["EPS", "PCX", "TGA", "ICO", "PDF"])
def test_other_formats_are_refused_whatever_their_name(tmp_path, format):
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, format)
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    for read in (read_image, read_header, read_size):
        with pytest.raises(InputError, match="must be readable"):
            read(tmp_path / "a.png")
    assert format not in FORMATS


def test_images_of_a_folder_by_stem(tmp_path):
    for name in ("b.webp", "a.2.JPG", "a.1.jpeg", "c.png", "c.jpg", "list.txt", "png"):
        (tmp_path / name).touch()
    found = images_by_stem(tmp_path)
    assert [(stem, file.name) for stem, file in found.items()] == [
        ("a.1", "a.1.jpeg"),
        ("a.2", "a.2.JPG"),
        ("b", "b.webp"),
        ("c", "c.jpg"),
    ]
    for missing in (tmp_path / "nowhere", tmp_path / "png"):
        with pytest.raises(InputError, match="a folder of images must be readable"):
            images_by_stem(missing)
