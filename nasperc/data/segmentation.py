"""COCO segmentations: polygons, uncompressed and compressed run lengths, to masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from nasperc.errors import InputError

_REPAIR = "Mend the annotation."


def check_segmentation(segmentation: Any, size: tuple[int, int], where: Path) -> Any | None:
    """The segmentation if it is well formed, less polygons of under three points; None if nothing is left.

    Args:
        segmentation: a list of polygons ``[x0, y0, x1, y1, ...]``, or ``{"size": [H, W], "counts": ...}``
            with counts as a list (uncompressed, column-major, zeros first) or a string (compressed).
        size: (H, W) of the image.
        where: the file that it came from.

    Raises:
        InputError: it is none of these, or its size is not the image's.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            numbers = isinstance(polygon, list) and all(isinstance(x, int | float) for x in polygon)
            if not numbers or len(polygon) % 2:
                raise InputError(
                    "a COCO polygon must be a list of x, y pairs",
                    value=_short(polygon),
                    where=where,
                    repair=_REPAIR,
                )
        return [polygon for polygon in segmentation if len(polygon) >= 6] or None
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("counts"), list | str):
        raise InputError(
            "a COCO segmentation must be polygons or run lengths {size, counts}",
            value=_short(segmentation),
            where=where,
            repair=_REPAIR,
        )
    if segmentation.get("size") != list(size):
        raise InputError(
            "run lengths must have their image's size",
            value=f"{segmentation.get('size')} instead of {list(size)}",
            where=where,
            repair=_REPAIR,
        )
    counts = segmentation["counts"]
    if isinstance(counts, list):
        whole = all(isinstance(run, int) and run >= 0 for run in counts)
        if not whole or sum(counts) != size[0] * size[1]:
            raise InputError(
                "uncompressed run lengths must add up to the image's area",
                value=f"{sum(counts) if whole else _short(counts)} instead of {size[0] * size[1]}",
                where=where,
                repair=_REPAIR,
            )
    return segmentation


def decode_mask(segmentation: Any, size: tuple[int, int], where: Path) -> np.ndarray:
    """(H, W) bool mask of a segmentation that :func:`check_segmentation` let pass.

    Raises:
        InputError: compressed run lengths that cannot be decoded.
    """
    height, width = size
    try:
        if isinstance(segmentation, list):
            run_lengths = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            run_lengths = coco_mask.frPyObjects(segmentation, height, width)
        else:
            run_lengths = segmentation
        return coco_mask.decode(run_lengths).astype(bool)
    except ValueError as error:
        raise InputError(
            "compressed run lengths must decode to the image's area", value=error, where=where, repair=_REPAIR
        ) from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
