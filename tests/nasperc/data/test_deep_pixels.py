"""Images of more than 8 bits: what was read as white or black before."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasperc.data.image import read_image
from nasperc.data.image_rules import ImageRules
from nasperc.errors import InputError

RNG = np.random.default_rng(0)
COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}


def save_png16(file: Path, pixels: np.ndarray) -> Path:
    """(H, W, C) uint16 by hand: pillow writes no colours of 16 bits."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPE[channels], 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    written = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + written)
    return file


def save_tiff16(file: Path, pixels: np.ndarray, photometric: int = 2) -> Path:
    """(H, W, C) uint16, uncompressed, by hand."""
    height, width, channels = pixels.shape
    data = pixels.astype("<u2").tobytes()
    tags = {
        256: width,
        257: height,
        259: 1,
        262: photometric,
        273: 8,
        277: channels,
        278: height,
        279: len(data),
    }
    entries = [(tag, 4, 1, struct.pack("<I", value)) for tag, value in tags.items()]
    bits = struct.pack("<HH", 16, 0) if channels == 1 else struct.pack("<I", 8 + len(data))
    entries.append((258, 3, channels, bits))
    extra = struct.pack(f"<{channels}H", *[16] * channels)
    ifd = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in sorted(entries)
    )
    file.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data) + len(extra)) + data + extra + ifd + bytes(4))
    return file


def save_deep(folder: Path, mode: str) -> tuple[Path, np.ndarray]:
    """A grey image of one of pillow's modes, and its values."""
    kinds = {
        "I;16": (np.uint16, "png", 0, 65535),
        "I;16B": (">u2", "tif", 0, 65535),
        "I": (np.int32, "tif", -(2**31), 2**31 - 1),
        "F": (np.float32, "tif", -3, 5),
    }
    dtype, suffix, low, high = kinds[mode]
    values = RNG.uniform(low, high, (5, 7)).astype(dtype)
    Image.fromarray(values).save(folder / f"a.{suffix}")
    with Image.open(folder / f"a.{suffix}") as picture:
        assert picture.mode == mode
    return folder / f"a.{suffix}", values


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_deep_images_are_refused_with_their_mode_and_values(tmp_path, mode):
    file, values = save_deep(tmp_path, mode)
    expected = f"got mode {mode}, values from {values.min():.9g} to {values.max():.9g} "
    with pytest.raises(InputError, match=r"data\.range must say how its values are scaled") as error:
        read_image(file)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_a_range_scales_linearly_and_clips(tmp_path, mode):
    file, values = save_deep(tmp_path, mode)
    low, high = np.quantile(values.astype(np.float64), [0.2, 0.7]).tolist()
    image = read_image(file, (5, 7), ImageRules(range=(low, high))).numpy()
    reference = np.interp(values.astype(np.float64), [low, high], [0, 255])
    assert np.abs(image[0] - reference).max() <= 0.5 + 1e-9
    assert (image[0] == image[1]).all()
    assert (image[0] == image[2]).all()
    assert {0, 255} <= set(image.flatten().tolist())


def test_every_value_of_16_bits(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(512, 128)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", rules=ImageRules(range=(0, 65535))).numpy()[0]
    assert np.array_equal(image, np.rint(values / 257).astype(np.uint8))


def test_images_of_8_bits_stay_as_they_are_beside_a_range(tmp_path):
    pixels = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "b.png")
    rules = ImageRules(range=(100, 4095))
    assert np.array_equal(read_image(tmp_path / "a.png", rules=rules).permute(1, 2, 0), pixels)
    assert np.array_equal(read_image(tmp_path / "b.png", rules=rules)[1], pixels[..., 0])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_of_colours_of_16_bits_the_upper_8_are_read(tmp_path, channels):
    values = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    image = read_image(save_png16(tmp_path / "a.png", values)).permute(1, 2, 0).numpy()
    colours = np.repeat(values[..., :1], 3, axis=2) if channels == 2 else values[..., :3]
    assert np.array_equal(image, colours >> 8)
    if channels == 3:
        assert np.array_equal(read_image(save_tiff16(tmp_path / "a.tif", values)).permute(1, 2, 0), image)


@pytest.mark.parametrize(
    ("save", "channels"), [(save_png16, 2), (save_png16, 3), (save_png16, 4), (save_tiff16, 3)]
)
def test_colours_in_the_lower_bits_alone_are_refused(tmp_path, save, channels):
    """12 bits of a camera, which would be black."""
    values = RNG.integers(0, 4096, (5, 7, channels), dtype=np.uint16)
    values[0, 0] = 4095
    if channels in (2, 4):
        values[..., -1] = 65535
    with pytest.raises(InputError, match=r"16 bits must use the upper 8.*no value of 4096 or more"):
        read_image(save(tmp_path / "a.png", values))


@pytest.mark.parametrize("rules", [ImageRules(), ImageRules(range=(0, 1))])
def test_values_that_are_no_numbers_are_refused(tmp_path, rules):
    values = np.ones((4, 6), np.float32)
    values[1, 2:4] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="must be finite numbers, but got 2 that are not, mode F"):
        read_image(tmp_path / "a.tif", rules=rules)


def test_a_deep_tiff_whose_zero_is_white_is_refused(tmp_path):
    file = save_tiff16(tmp_path / "a.tif", RNG.integers(0, 65536, (5, 7, 1), dtype=np.uint16), photometric=0)
    with pytest.raises(InputError, match="zero is white"):
        read_image(file, rules=ImageRules(range=(0, 65535)))


def test_a_large_image_is_scaled_in_strips(tmp_path):
    values = RNG.integers(0, 65536, (700, 3), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", rules=ImageRules(range=(1000, 2000))).numpy()[0]
    assert np.array_equal(image, np.rint(np.clip((values - 1000.0) / 1000, 0, 1) * 255))
