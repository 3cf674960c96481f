"""VOC's ``SegmentationObject`` maps: which of their objects belongs to which box, and its mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nasperc.data.coco_masks import RunLengths, encode_masks
from nasperc.data.label_map import read_map
from nasperc.data.report import Box
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.errors import InputError
from nasperc.ops.boxes import box_iou

BACKGROUND = 0


class ObjectMask(NamedTuple):
    """``run_lengths`` as COCO has them; ``area`` in pixels."""

    run_lengths: RunLengths
    area: float


def masks_of_boxes(file: Path, boxes: Sequence[Box], size: tuple[int, int]) -> list[ObjectMask | None]:
    """The mask of each box: of the palette index that overlaps it best, each index at most once.

    Pairs are made in the order of the overlap (IoU) of the box with that around the pixels of the index. The border of
    an object, 255, belongs to none. An index most of whose pixels lie outside of a box is that of another object: None
    where there is no other left.

    Args:
        file: a palette (or grey) image of object numbers.
        boxes: (x1, y1, x2, y2) in pixels.
        size: (H, W) of the image.

    Raises:
        InputError: the map is missing, no image, of another size, or coloured.
    """
    mode, indices = read_map(file, size)
    if mode not in ("P", "L"):
        raise InputError(
            "a map of objects must be a palette or grey image of their numbers",
            value=f"mode {mode}",
            where=file,
            repair="Replace its colours by numbers.",
        )
    numbers = np.setdiff1d(np.unique(indices), [BACKGROUND, SEMANTIC_IGNORE])
    found: list[ObjectMask | None] = [None] * len(boxes)
    if not boxes or not len(numbers):
        return found
    masks = indices == numbers[:, None, None]
    run_lengths = encode_masks(masks)
    around = [_box_around(mask) for mask in masks]
    overlaps = box_iou(torch.tensor(boxes), torch.tensor(around, dtype=torch.float32)).numpy()
    for number, box in enumerate(boxes):
        overlaps[number, _shares_inside(masks, box) < 0.5] = 0
    for place in np.argsort(-overlaps, axis=None, kind="stable").tolist():
        number, index = divmod(place, len(numbers))
        if overlaps[number, index] > 0:
            found[number] = ObjectMask(run_lengths[index], float(masks[index].sum()))
            overlaps[number], overlaps[:, index] = 0, 0
    return found


def _box_around(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _shares_inside(masks: np.ndarray, box: Box) -> np.ndarray:
    """(M,): how much of each of masks (M, H, W) lies inside a box."""
    x1, y1, x2, y2 = box
    window = masks[:, math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)]
    shares: np.ndarray = window.sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
    return shares
