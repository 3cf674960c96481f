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
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def read_image(file: Path, size: tuple[int, int] | None = None) -> Tensor:
    """The image as (3, H, W) uint8 RGB, a channels-last view of the decoded pixels.

    An EXIF orientation is not applied: VOC and COCO boxes are given in the pixels as they are stored, and an
    annotation drawn on the turned picture shows itself by its size (turns by 90 degrees), which is an error.

    Args:
        file: a JPEG, PNG, WebP or other file that pillow reads.
        size: (height, width) that the annotation states, checked when given.

    Raises:
        InputError: the file is missing, no image, cut short, or not of ``size``.
    """
    try:
        with Image.open(file) as picture:
            orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
            pixels = np.array(picture.convert("RGB"))
    # SyntaxError is what pillow raises on a broken PNG.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            "an image must be readable",
            value=error,
            where=file,
            repair="Replace the file, or take it off the split.",
        ) from error
    if size is not None and pixels.shape[:2] != size:
        turned = orientation in (5, 6, 7, 8)
        raise InputError(
            "an image must have the size that its annotation states",
            value=f"{pixels.shape[1]}x{pixels.shape[0]} instead of {size[1]}x{size[0]}",
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
        with Image.open(file) as picture:
            return picture.height, picture.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            "an image must be readable",
            value=error,
            where=file,
            repair="Replace the file, or take it off the split.",
        ) from error
