"""Readers of images and label maps, and files that were made to hurt them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

from target import Read

_OTHERS = ("PCX", "TGA", "ICO", "SGI", "DIB", "PDF")
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\nshowpage\n"
_ORIENTATION = 0x0112


def picture(format: str, size: tuple[int, int] = (8, 6), orientation: int | None = None) -> bytes:
    """(width, height) of noise in a format of pillow's."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[_ORIENTATION] = orientation
    return _saved(pixels, format, **({} if orientation is None else {"exif": exif.tobytes()}))


def _saved(pixels: object, format: str, mode: str | None = None, **options: object) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(pixels)  # type: ignore[arg-type]
    (image if mode is None else image.convert(mode)).save(buffer, format, **options)
    return buffer.getvalue()


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *before: tuple[bytes, bytes]) -> bytes:
    """Chunks by hand: the header says what it likes of the rows."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _exif(
    entries: int, *, kind: int = 3, count: int = 1, value: bytes = b"\3\0\0\0", following: int = 0
) -> bytes:
    """A little-endian block of so many entries of one orientation."""
    entry = struct.pack("<HHI", _ORIENTATION, kind, count) + value
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + entry + struct.pack("<I", following)


def hostile_exif() -> list[bytes]:
    """Blocks that say more than they hold, that hold themselves, or an orientation of another type."""
    return [
        _exif(1),
        _exif(0xFFFF),
        _exif(1, count=0xFFFFFFFF, value=b"\x08\0\0\0"),
        _exif(1, following=8),
        _exif(1, kind=2, count=2, value=b"6\0\0\0"),
        _exif(1, kind=5, value=b"\x1a\0\0\0"),
        _exif(1, value=b"\xff\xff\0\0"),
        b"MM\0*\xff\xff\xff\xff",
        b"\xff" * 60_000,
    ]


def hostile_images() -> list[bytes]:
    """Headers of 60,000 x 60,000, foreign formats, deep values, blocks of EXIF."""
    import numpy as np

    rng = np.random.default_rng(0)
    row = bytes(1 + 6 * 8)
    seeds = [
        png(60_000, 60_000, 8, 2, bytes(100)),
        png(0xFFFFFFFF, 0xFFFFFFFF, 16, 6, bytes(100)),
        png(11_000, 11_000, 1, 0, bytes(100)),
        # Colours of 16 bits, which pillow does not write.
        png(8, 6, 16, 2, row * 6),
        png(8, 6, 16, 2, (b"\0" + bytes(range(48))) * 6),
        _EPS,
        *(picture(format) for format in _OTHERS),
        _saved(rng.integers(0, 65536, (6, 8), np.uint16), "PNG"),
        _saved(rng.integers(-9, 9, (6, 8), np.int32), "TIFF"),
        _saved(rng.normal(size=(6, 8)).astype(np.float32), "TIFF"),
        _saved(np.full((6, 8), np.nan, np.float32), "TIFF"),
    ]
    rows = (b"\0" + bytes(24)) * 6
    for block in hostile_exif():
        seeds.append(png(8, 6, 8, 2, rows, (b"eXIf", block)))
    return seeds + [picture(format, orientation=k) for k in (3, 6) for format in ("JPEG", "PNG", "WEBP")]


def image_seeds() -> list[bytes]:
    from nasperc.data.image import FORMATS

    return [picture(format) for format in FORMATS] + hostile_images()


def open_image(folder: Path) -> Read:
    from nasperc.data.image import read_image, read_size
    from nasperc.data.image_check import ImageCheck
    from nasperc.data.image_rules import ImageRules
    from nasperc.errors import InputError

    file = folder / "a.jpg"
    rules = ImageRules(), ImageRules(exif="apply", range=(-1, 4095)), ImageRules(exif="refuse", range=(0, 1))

    def read(data: bytes) -> None:
        file.write_bytes(data)
        refused: list[InputError] = []
        for each in rules:
            ImageCheck.of([file], each).lines()
            for step in (
                lambda each=each: read_size(file, each),
                lambda each=each: read_image(file, (6, 8), each),
                lambda each=each: read_image(file, rules=each),
                lambda each=each: ImageCheck.of([file], each).require(),
            ):
                try:
                    step()
                # All of them are tried: what one refuses another may stumble over.
                except InputError as error:
                    refused.append(error)
        if refused:
            raise refused[0]

    return read


def label_map_seeds() -> list[bytes]:
    import numpy as np

    ids = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
    return [
        _saved(ids, "PNG"),
        _saved(ids, "PNG", "P"),
        _saved(ids, "PNG", "1"),
        _saved(ids.astype(np.uint16), "PNG"),
        _saved(ids.astype(np.int32), "TIFF"),
        _saved(ids, "BMP"),
        *hostile_images(),
    ]


def open_label_map(folder: Path) -> Read:
    from nasperc.data.image import read_size
    from nasperc.data.label_map import LabelIds

    ids = LabelIds.contiguous(3)

    def read(data: bytes) -> None:
        (folder / "a.png").write_bytes(data)
        ids.read(folder / "a.png", (6, 8))
        ids.read(folder / "a.png", read_size(folder / "a.png"))

    return read
