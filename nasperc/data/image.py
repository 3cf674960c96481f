"""Reading one image file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nasperc.errors import InputError

_EXIF_ORIENTATION = 0x0112
# Others hand the file to a program (EPS to Ghostscript), or are seldom read and so seldom tested.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
# 1.5 GB as float32 RGB.
MOST_PIXELS = 128_000_000
# What an annotation may claim; also the most that a JPEG can have.
LONGEST_SIDE = 65_535
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def read_image(file: Path, size: tuple[int, int] | None = None) -> Tensor:
    """The image as (3, H, W) uint8 RGB, a channels-last view of the decoded pixels.

    An EXIF orientation is not applied: VOC and COCO boxes are given in the pixels as they are stored, and an
    annotation drawn on the turned picture shows itself by its size (turns by 90 degrees), which is an error.

    Args:
        file: one of ``FORMATS``, whatever its name.
        size: (height, width) that the annotation states, checked when given.

    Raises:
        InputError: the file is missing, no image, cut short, or not of ``size``.
    """
    try:
        with _open(file) as picture:
            found = picture.height, picture.width
            # A file of another size is not decoded: it may be one that fills the memory.
            fits = size is None or found == size
            pixels = np.array(picture.convert("RGB")) if fits else np.empty(0, np.uint8)
            turned = not fits and picture.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    # Bytes that are no image make pillow's decoders fail in every way there is.
    except Exception as error:
        raise _unreadable(file, error) from error
    if size is not None and not fits:
        raise InputError(
            "an image must have the size that its annotation states",
            value=f"{found[1]}x{found[0]} instead of {size[1]}x{size[0]}",
            where=file,
            repair="The file carries an EXIF rotation: store it upright."
            if turned
            else "Mend one of the two.",
        )
    return torch.from_numpy(pixels).permute(2, 0, 1)


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


def read_size(file: Path) -> tuple[int, int]:
    """(height, width) from the header alone.

    Raises:
        InputError: the file is missing or no image.
    """
    try:
        with _open(file) as picture:
            return picture.height, picture.width
    except Exception as error:
        raise _unreadable(file, error) from error


def _open(file: Path) -> Image.Image:
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


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(
        "an image must be readable",
        value=str(error) or type(error).__name__,
        where=file,
        repair="Replace the file, or take it off the split.",
    )
