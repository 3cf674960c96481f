"""Maps of segments on disk: COCO's panoptic PNG files, whose colours are the ids of segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nasperc.data.coco_masks import RunLengths, encode_masks
from nasperc.data.label_map import read_map
from nasperc.errors import InputError

VOID = 0
# Three channels of eight bits.
LARGEST_ID = (1 << 24) - 1


def read_segments(file: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) int64 of ids: R + 256 G + 256^2 B.

    Raises:
        InputError: the file is missing, no image, of another size than ``size`` (H, W), or not in colour.
    """
    mode, pixels = read_map(file, size)
    if mode not in ("RGB", "RGBA"):
        raise InputError(
            "a map of segments must be an RGB image of ids, R + 256 G + 256^2 B",
            value=f"mode {mode}",
            where=file,
            repair="Replace the file.",
        )
    ids: np.ndarray = pixels[..., :3].astype(np.int64) @ np.array([1, 256, 256 * 256])
    return ids


def segment_masks(file: Path, ids: Sequence[int], size: tuple[int, int]) -> list[RunLengths]:
    """Run lengths of each of these segments of a map.

    Raises:
        InputError: as :func:`read_segments`; a segment has no pixel.
    """
    segments = read_segments(file, size)
    masks = segments == np.asarray(ids, np.int64).reshape(-1, 1, 1)
    missing = [each for each, shown in zip(ids, masks.any(axis=(1, 2)), strict=True) if not shown]
    if missing:
        raise InputError(
            "a listed segment must have a pixel in the map of its image",
            value=f"none of the id {missing[0]}",
            where=file,
            repair="Mend one of the two.",
        )
    return encode_masks(masks)
