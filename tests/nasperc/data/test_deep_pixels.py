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


def save_tiff(file: Path, pixels: np.ndarray, photometric: int = 2, planes: int = 1) -> Path:
    """(H, W, C) unsigned, uncompressed, by hand; ``planes`` 2: one for each channel."""
    height, width, channels = pixels.shape
    parts = [pixels[..., k] for k in range(channels)] if planes == 2 else [pixels]
    body = b"".join(part.tobytes() for part in parts)
    size = len(body) // len(parts)
    starts = [8 + k * size for k in range(len(parts))]
    fields = {
        256: [width],
        257: [height],
        258: [8 * pixels.itemsize] * channels,
        259: [1],
        262: [photometric],
    }
    fields |= {273: starts, 277: [channels], 278: [height], 279: [size] * len(parts), 284: [planes]}
    entries = b""
    for tag, values in sorted(fields.items()):
        place = 8 + len(body)
        if len(values) > 1:
            body += struct.pack(f"<{len(values)}I", *values)
        entries += struct.pack("<HHII", tag, 4, len(values), place if len(values) > 1 else values[0])
    ifd = struct.pack("<H", len(fields)) + entries + bytes(4)
    file.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(body)) + body + ifd)
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
        assert np.array_equal(read_image(save_tiff(tmp_path / "a.tif", values)).permute(1, 2, 0), image)


@pytest.mark.parametrize(
    ("save", "channels"), [(save_png16, 2), (save_png16, 3), (save_png16, 4), (save_tiff, 3)]
)
def test_colours_in_the_lower_bits_alone_are_refused(tmp_path, save, channels):
    """12 bits of a camera, which would be black."""
    values = RNG.integers(0, 4096, (5, 7, channels), dtype=np.uint16)
    values[0, 0] = 4095
    if channels in (2, 4):
        values[..., -1] = 65535
    with pytest.raises(InputError, match=r"16 bits must use the upper 8.*no value of 4096 or more"):
        read_image(save(tmp_path / "a.png", values))


def test_a_black_frame_of_16_bits_is_black(tmp_path):
    assert not read_image(save_png16(tmp_path / "a.png", np.zeros((5, 7, 3), np.uint16))).any()


@pytest.mark.parametrize("rules", [ImageRules(), ImageRules(range=(0, 1))])
def test_values_that_are_no_numbers_are_refused(tmp_path, rules):
    values = np.ones((4, 6), np.float32)
    values[1, 2:4] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="must be finite numbers, but got 2 that are not, mode F"):
        read_image(tmp_path / "a.tif", rules=rules)


def test_a_deep_tiff_whose_zero_is_white_is_refused(tmp_path):
    file = save_tiff(tmp_path / "a.tif", RNG.integers(0, 65536, (5, 7, 1), dtype=np.uint16), photometric=0)
    with pytest.raises(InputError, match="zero is white"):
        read_image(file, rules=ImageRules(range=(0, 65535)))


def test_a_large_image_is_scaled_in_strips(tmp_path):
    values = RNG.integers(0, 65536, (700, 3), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", rules=ImageRules(range=(1000, 2000))).numpy()[0]
    assert np.array_equal(image, np.rint(np.clip((values - 1000.0) / 1000, 0, 1) * 255))


def test_planes_of_16_bits_are_refused(tmp_path):
    """Pillow takes them for planes of 8 bits, half of each."""
    values = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    with pytest.raises(InputError, match="separate planes of more than 8 bits"):
        read_image(save_tiff(tmp_path / "a.tif", values, planes=2))
    narrow = (values >> 8).astype(np.uint8)
    assert np.array_equal(
        read_image(save_tiff(tmp_path / "b.tif", narrow, planes=2)).permute(1, 2, 0), narrow
    )


def test_unsigned_integers_of_32_bits_are_not_taken_for_signed_ones(tmp_path):
    values = RNG.integers(2**31, 2**32, (5, 7, 1), dtype=np.uint32)
    file = save_tiff(tmp_path / "a.tif", values, photometric=1)
    image = read_image(file, rules=ImageRules(range=(2**31, 2**32 - 1))).numpy()[0]
    assert np.array_equal(image, np.rint((values[..., 0] - 2.0**31) / (2**31 - 1) * 255))


def test_a_pgm_has_the_values_that_it_states(tmp_path):
    """Pillow scales them to 65535."""
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    (tmp_path / "a.pgm").write_bytes(b"P5\n64 64\n4095\n" + values.astype(">u2").tobytes())
    with pytest.raises(InputError, match="mode I, values from 0 to 4095 "):
        read_image(tmp_path / "a.pgm")
    image = read_image(tmp_path / "a.pgm", rules=ImageRules(range=(0, 4095))).numpy()[0]
    assert np.array_equal(image, np.rint(values / 4095 * 255))


def test_a_ppm_of_12_bits_is_scaled_by_what_it_states(tmp_path):
    values = RNG.integers(0, 4096, (5, 7, 3), dtype=np.uint16)
    (tmp_path / "a.ppm").write_bytes(b"P6\n7 5\n4095\n" + values.astype(">u2").tobytes())
    image = read_image(tmp_path / "a.ppm").permute(1, 2, 0).numpy()
    assert np.abs(image - values / 4095 * 255).max() <= 0.5
