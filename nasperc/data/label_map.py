"""Label maps on disk: grey or palette images whose pixel values are class ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nasperc.data.deep_pixels import is_deep_colour
from nasperc.data.image import open_image
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.errors import InputError

_UNKNOWN = -1
# "1" holds the intensities 0 and 255, as an optimiser of PNG files leaves a map of class 0 and 255.
_MODES = ("L", "P", "1", "I", "I;16")


class LabelIds:
    """Which id in a file is which label of a sample.

    Args:
        labels: label (or 255, ignored) by id in 0..255. The id 255 is ignored in any case.
    """

    def __init__(self, labels: Mapping[int, int]) -> None:
        self.labels = {**labels, SEMANTIC_IGNORE: SEMANTIC_IGNORE}
        # One entry more for what does not fit into eight bits.
        self._table = np.full(257, _UNKNOWN, np.int64)
        self._table[list(self.labels)] = list(self.labels.values())

    @classmethod
    def contiguous(cls, classes: int) -> LabelIds:
        """Ids 0..classes - 1 are the labels, the id ``classes`` is void, as in the SegNet layout.

        Raises:
            InputError: more classes than eight bits hold beside the ignored id.
        """
        if classes > SEMANTIC_IGNORE:
            raise InputError(
                f"a label map has at most {SEMANTIC_IGNORE} classes",
                value=classes,
                where="the list of classes",
                repair="Merge some of them.",
            )
        return cls({**{label: label for label in range(classes)}, classes: SEMANTIC_IGNORE})

    def read(self, file: Path, size: tuple[int, int]) -> Tensor:
        """The label map as (H, W) int64, 255 where it is ignored.

        Args:
            file: a grey or palette image of any format that images have (of a palette the indices count, not the
                colours).
            size: (H, W) of its image.

        Raises:
            InputError: the file is missing, no image, coloured, of another size, or has an unknown id.
        """
        mode, ids = read_map(file, size)
        if mode not in _MODES:
            raise InputError(
                "a label map must be a grey or palette image of class ids",
                value=f"mode {mode}",
                where=file,
                repair="Replace its colours by ids.",
            )
        labels = self._table[ids if ids.dtype == np.uint8 else np.where((ids < 0) | (ids > 255), 256, ids)]
        if labels.min() == _UNKNOWN:
            unknown = np.unique(ids[labels == _UNKNOWN]).tolist()
            raise InputError(
                f"label ids must be out of {', '.join(map(str, sorted(self.labels)))}",
                value=", ".join(map(str, unknown[:10])) + (", ..." if len(unknown) > 10 else ""),
                where=file,
                repair="Mend the map, or name all classes in a file and pass it as --classes FILE.",
            )
        return torch.from_numpy(labels)


def read_map(file: Path, size: tuple[int, int], *, eight_bits: bool = False) -> tuple[str, np.ndarray]:
    """Pillow's mode and the values (H, W) or (H, W, C) of an annotation that is an image; of a palette the indices.

    Args:
        file: of any format that images have.
        size: (H, W) of its image.
        eight_bits: colours of more bits are refused; else the upper eight are read.

    Raises:
        InputError: the file is missing, no image, of another size, or of more bits.
    """
    try:
        with open_image(file) as picture:
            mode = picture.mode
            # One of another size is not decoded: it may be one that fills the memory.
            check_size((picture.height, picture.width), size, file)
            if eight_bits and is_deep_colour(picture):
                raise InputError(
                    "an annotation in colour must have eight bits a channel",
                    value=f"mode {mode} of 16 bits",
                    where=file,
                    repair="Store it with eight.",
                )
            return mode, np.asarray(picture.convert("L") if mode == "1" else picture)
    except InputError:
        raise
    # Bytes that are no image make pillow's decoders fail in every way there is.
    except Exception as error:
        raise InputError(
            "an annotation must be a readable image",
            value=str(error) or type(error).__name__,
            where=file,
            repair="Replace the file, or take its image off the split.",
        ) from error


def check_size(found: tuple[int, ...], size: tuple[int, int], file: Path) -> None:
    """Raises InputError unless an annotation's (H, W) is that of its image."""
    if found != size:
        raise InputError(
            "an annotation must have the size of its image",
            value=f"{found[1]}x{found[0]} instead of {size[1]}x{size[0]}",
            where=file,
            repair="Mend one of the two.",
        )


def label_colours(count: int) -> np.ndarray:
    """(count, 3) uint8, RGB: PASCAL VOC's colours of its classes 1, 2, ... (black is left to what is ignored)."""
    index = np.arange(1, count + 1)
    colours = np.zeros((count, 3), np.uint8)
    # Bits 0, 1, 2 of the index are the highest bits of R, G, B, bits 3, 4, 5 the next, and so on.
    for place in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * place + channel) & 1) << (7 - place)).astype(np.uint8)
    return colours


def write_label_map(file: Path, labels: Tensor | np.ndarray, colours: np.ndarray | None = None) -> None:
    """Write (H, W) labels in 0..255 as a palette PNG whose indices are the labels; 255 is black.

    ``colours``: (C, 3) uint8, RGB, of the first C labels; None: :func:`label_colours`.
    """
    picture = Image.fromarray(np.asarray(labels).astype(np.uint8))
    palette = np.zeros((256, 3), np.uint8)
    chosen = label_colours(SEMANTIC_IGNORE) if colours is None else colours
    palette[: len(chosen)] = chosen
    picture.putpalette(palette.tobytes())
    picture.save(file, "PNG", optimize=True)
