"""Reading one image file: the one place that opens any."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

from nasperc.data.deep_pixels import check_upper_bits, is_deep, is_deep_colour, scaled_grey
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.errors import InputError

_EXIF_ORIENTATION = 0x0112
# Others hand the file to a program (EPS to Ghostscript), or are seldom read and so seldom tested.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
# 1.5 GB as float32 RGB.
MOST_PIXELS = 128_000_000
# What an annotation may claim; also the most that a JPEG can have.
LONGEST_SIDE = 65_535
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# Of EXIF blocks that are broken, which say nothing then, and of many pixels, whose bound stands above.
warnings.filterwarnings("ignore", module=r"PIL\.(Image|TiffImagePlugin)")


class Header(NamedTuple):
    """``size``: (H, W) as stored. ``orientation``: EXIF's 1 to 8, where 1 is upright. ``deep``: grey of 16 or 32 bits,
    which only a range makes an image of 8."""

    size: tuple[int, int]
    orientation: int
    deep: bool

    def read_size(self, rules: ImageRules) -> tuple[int, int]:
        """(H, W) as the image is read."""
        turned = rules.exif == "apply" and self.orientation >= 5
        return self.size[::-1] if turned else self.size


def read_image(file: Path, size: tuple[int, int] | None = None, rules: ImageRules = AS_STORED) -> Tensor:
    """The image as (3, H, W) uint8 RGB, a channels-last view of the decoded pixels; of several frames the first.

    Args:
        file: one of ``FORMATS``, whatever its name.
        size: (height, width) that the annotation states, checked when given.
        rules: of values and orientation. By the default an EXIF orientation is not applied: an annotation drawn on the
            turned picture shows itself by its size where it is turned by 90 degrees, and not otherwise.

    Raises:
        InputError: the file is missing, no image, cut short, not of ``size``, or refused by ``rules``.
    """
    try:
        with open_image(file) as picture:
            # Only where it counts: the block may be broken in an image that is none the worse for it.
            header = _header(picture, orientation=rules.exif != "ignore")
            found = header.read_size(rules)
            # A file of another size is not decoded: it may be one that fills the memory.
            if size is not None and found != size:
                raise _other_size(file, found, size, _header(picture), rules)
            if rules.exif == "refuse" and header.orientation != 1:
                raise oriented_error(file, header.orientation)
            pixels = _pixels(picture, file, rules)
    except InputError:
        raise
    # Bytes that are no image make pillow's decoders fail in every way there is.
    except Exception as error:
        raise _unreadable(file, error) from error
    if rules.exif == "apply":
        pixels = upright(pixels, header.orientation)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) of an EXIF orientation as a viewer shows them: (W, H, C) for 5 to 8."""
    turned = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.swapaxes(0, 1),
        6: lambda: pixels[::-1].swapaxes(0, 1),
        7: lambda: pixels[::-1, ::-1].swapaxes(0, 1),
        8: lambda: pixels[:, ::-1].swapaxes(0, 1),
    }.get(orientation, lambda: pixels)()
    # torch takes no negative strides.
    return np.ascontiguousarray(turned)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder in the order of their names; one listing is much faster than a look-up for each stem
    and suffix. Of several images of one stem the first counts.

    Raises:
        InputError: there is no such folder.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        raise InputError(
            "a folder of images must be readable",
            value=error.strerror,
            where=folder,
            repair="Add the images.",
        ) from error
    images: dict[str, Path] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in IMAGE_SUFFIXES:
            images.setdefault(stem, folder / name)
    return images


def read_size(file: Path, rules: ImageRules = AS_STORED) -> tuple[int, int]:
    """(height, width) of the image as ``rules`` read it, from the header alone.

    Raises:
        InputError: the file is missing or no image.
    """
    return read_header(file, orientation=rules.exif == "apply").read_size(rules)


def read_header(file: Path, *, orientation: bool = True) -> Header:
    """What the header says; without ``orientation`` that is not looked at, and 1.

    Raises:
        InputError: the file is missing or no image.
    """
    try:
        with open_image(file) as picture:
            return _header(picture, orientation=orientation)
    except Exception as error:
        raise _unreadable(file, error) from error


def open_image(file: Path) -> ImageFile.ImageFile:
    """The image, of which only the header is read.

    Raises:
        Exception: whatever pillow raises; an image of more than ``MOST_PIXELS``.
    """
    if not file.is_file():
        raise OSError("no such file")
    picture = Image.open(file, formats=FORMATS)
    if picture.width * picture.height > MOST_PIXELS:
        picture.close()
        raise ValueError(f"{picture.width}x{picture.height} pixels, more than {MOST_PIXELS / 1e6:g} million")
    return picture


def oriented_error(file: Path, orientation: int, count: int = 1) -> InputError:
    """What ``exif: refuse`` says of ``count`` images, of which ``file`` is the first."""
    return InputError(
        "with data.exif: refuse no image may carry an EXIF orientation",
        value=f"orientation {orientation}" if count == 1 else f"{count} images with one, here {orientation}",
        where=file,
        repair="Store the images upright, or say how they are read: data.exif: apply or ignore.",
    )


def _header(picture: ImageFile.ImageFile, *, orientation: bool = True) -> Header:
    size = picture.height, picture.width
    return Header(size, _orientation(picture) if orientation else 1, is_deep(picture))


def _orientation(picture: ImageFile.ImageFile) -> int:
    """EXIF's orientation, 1 where there is none or one that means nothing.

    Only what stands before the pixels counts. A TIFF has none: its orientation is part of the format, and pillow
    applies it whatever the rules.
    """
    if picture.format == "TIFF":
        return 1
    try:
        # Not the PNG reader's own, which decodes the whole image where it finds no block before the pixels.
        value = Image.Image.getexif(picture).get(_EXIF_ORIENTATION)
    # A broken block says nothing, as to every viewer; pillow fails on it in every way there is.
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _pixels(picture: ImageFile.ImageFile, file: Path, rules: ImageRules) -> np.ndarray:
    """(H, W, 3) uint8, as stored."""
    if is_deep(picture):
        grey = scaled_grey(picture, file, rules.range)
        return np.repeat(grey[..., None], 3, axis=2)
    if is_deep_colour(picture):
        check_upper_bits(picture, file)
    # A conversion to the same mode would be one more copy.
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _other_size(
    file: Path, found: tuple[int, int], size: tuple[int, int], header: Header, rules: ImageRules
) -> InputError:
    repair = "Mend one of the two."
    if header.orientation >= 5 and found[::-1] == size:
        other = "apply" if rules.exif != "apply" else "ignore"
        repair = f"The file carries an EXIF rotation: store it upright, or read it with data.exif: {other}."
    return InputError(
        "an image must have the size that its annotation states",
        value=f"{found[1]}x{found[0]} instead of {size[1]}x{size[0]}",
        where=file,
        repair=repair,
    )


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(
        "an image must be readable",
        value=str(error) or type(error).__name__,
        where=file,
        repair="Replace the file, or take it off the split.",
    )
