"""COCO segmentations: polygons, uncompressed and compressed run lengths, checked, and made and filled by pycocotools.

The library is imported where it is needed: whoever reads boxes from a cache does without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from nasperc.data.typed_values import is_number
from nasperc.errors import InputError, shown

# ``size`` (H, W) and ``counts``: compressed as bytes or text, else a list.
RunLengths: TypeAlias = dict[str, Any]

_REPAIR = "Mend the annotation."
_MOST_BITS = 32


def check_segmentation(segmentation: Any, size: tuple[int, int], where: Path) -> Any | None:
    """The segmentation if it is well formed, less polygons of under three points; None if nothing is left of it, or
    run lengths have no pixel.

    Args:
        segmentation: a list of polygons ``[x0, y0, x1, y1, ...]``, or ``{"size": [H, W], "counts": ...}``
            with counts as a list (uncompressed, column-major, zeros first) or a string (compressed).
        size: (H, W) of the image.
        where: the file that it came from.

    Raises:
        InputError: it is none of these, or its size is not the image's.
    """
    if isinstance(segmentation, list):
        # pycocotools walks along each edge, so that a mistyped exponent would take all memory.
        limit = 10 * max(size)
        for polygon in segmentation:
            if (
                not isinstance(polygon, list)
                or len(polygon) % 2
                or not all(is_number(x) and -limit <= x <= limit for x in polygon)
            ):
                raise InputError(
                    "a COCO polygon must be a list of x, y pairs in or near the image",
                    value=shown(polygon),
                    where=where,
                    repair=_REPAIR,
                )
        return [polygon for polygon in segmentation if len(polygon) >= 6] or None
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("counts"), list | str):
        raise InputError(
            "where masks are asked for, a COCO segmentation must be polygons or run lengths {size, counts}",
            value="an object without any" if segmentation is None else shown(segmentation),
            where=where,
            repair=_REPAIR,
        )
    stated = segmentation.get("size")
    # 6.0 and true are equal to 6 and 1.
    if stated != list(size) or not all(type(side) is int for side in stated):
        raise InputError(
            "run lengths must have their image's size",
            value=f"{shown(stated)} instead of {list(size)}",
            where=where,
            repair=_REPAIR,
        )
    counts = segmentation["counts"]
    runs = counts if isinstance(counts, list) else _runs(counts)
    # pycocotools would leave what too few runs do not cover uninitialised.
    whole = all(type(run) is int and run >= 0 for run in runs)
    if not whole or sum(runs) != size[0] * size[1]:
        raise InputError(
            "run lengths must be >= 0 and add up to the image's area",
            value=f"a sum of {sum(runs)} instead of {size[0] * size[1]}" if whole else shown(counts),
            where=where,
            repair=_REPAIR,
        )
    return segmentation if any(runs[1::2]) else None


def fill_polygons(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> RunLengths:
    """The pixels of an image of ``size`` (H, W) that at least one polygon covers, by pycocotools' rule.

    Args:
        polygons: one or more, each of three points (K, 2) or more as (x, y), which may lie outside.
        size: of the image.
    """
    from pycocotools import mask as coco_mask

    flat = [polygon.reshape(-1) for polygon in polygons]
    return coco_mask.merge(coco_mask.frPyObjects(flat, *size))


def compressed(run_lengths: RunLengths) -> RunLengths:
    """Run lengths that :func:`check_segmentation` let pass, as pycocotools computes with them."""
    from pycocotools import mask as coco_mask

    if isinstance(run_lengths["counts"], list):
        return coco_mask.frPyObjects(run_lengths, *run_lengths["size"])
    return run_lengths


def encode_masks(masks: np.ndarray | Tensor) -> list[RunLengths]:
    """COCO's run lengths of each of (M, H, W) masks, as plain values of JSON."""
    from pycocotools import mask as coco_mask

    array = np.asarray(masks)
    encoded = (
        coco_mask.encode(np.asfortranarray(array.transpose(1, 2, 0), dtype=np.uint8)) if array.size else []
    )
    return [{"size": each["size"], "counts": each["counts"].decode("ascii")} for each in encoded]


def decode_mask(run_lengths: RunLengths) -> np.ndarray:
    """(H, W) uint8 of compressed run lengths."""
    from pycocotools import mask as coco_mask

    return coco_mask.decode(run_lengths)


def _runs(counts: str) -> list[int]:
    """The run lengths of COCO's compressed string; [-1] for a string that ends within a number, or for no such one.

    Each character carries five bits and a continuation bit, low bits first, sign extended; from the fourth
    run on the difference to the run before the last is stored.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        # Another character, or a number that no image has: the library would compute with it all the same.
        if not 0 <= code < 64 or shift > _MOST_BITS:
            return [-1]
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return [-1] if shift else runs
