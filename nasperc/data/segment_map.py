"""Maps of segments on disk: COCO's panoptic PNG files, whose colours are the ids of segments.

Legend used in shapes: S segments, (H, W) the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nasperc.data.coco_masks import RunLengths, encode_masks
from nasperc.data.label_map import read_map
from nasperc.errors import InputError

VOID = 0
# Three channels of eight bits.
LARGEST_ID = (1 << 24) - 1
_MEND = "Mend one of the two."


def read_segments(file: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) int64 of ids: R + 256 G + 256^2 B.

    Raises:
        InputError: the file is missing, no image, of another size than ``size`` (H, W), or not in colour of eight bits
            a channel.
    """
    mode, pixels = read_map(file, size, eight_bits=True)
    if mode not in ("RGB", "RGBA"):
        raise InputError(
            "a map of segments must be an RGB image of ids, R + 256 G + 256^2 B",
            value=f"mode {mode}",
            where=file,
            repair="Replace the file.",
        )
    ids: np.ndarray = pixels[..., :3].astype(np.int64) @ np.array([1, 256, 256 * 256])
    return ids


def write_segments(file: Path, ids: np.ndarray) -> None:
    """Write ids (H, W), from 0 to ``LARGEST_ID``, as a PNG that :func:`read_segments` reads."""
    channels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1)
    Image.fromarray(channels.astype(np.uint8)).save(file, "PNG")


def segment_masks(file: Path, ids: Sequence[int], size: tuple[int, int]) -> list[RunLengths]:
    """Run lengths of each of these segments of a map.

    Raises:
        InputError: as :func:`read_segments`; a segment has no pixel.
    """
    return masks_in(read_segments(file, size), ids, file)


def masks_in(segments: np.ndarray, ids: Sequence[int], file: Path) -> list[RunLengths]:
    """Run lengths of each of these segments of a map that was read from ``file``.

    Raises:
        InputError: one has no pixel.
    """
    masks = segments == np.asarray(ids, np.int64).reshape(-1, 1, 1)
    _check_shown(ids, masks.any(axis=(1, 2)), file)
    return encode_masks(masks)


def places_in(segments: np.ndarray, ids: np.ndarray, file: Path) -> np.ndarray:
    """Which segment each pixel belongs to, as a place in the list of all: (H, W) int64, k for the id k - 1, 0 for void.

    Args:
        segments: (H, W) int64 of ids, 0 for void, read from ``file``.
        ids: (S,), each once.

    Raises:
        InputError: a pixel has another id; a segment has no pixel.
    """
    known = np.concatenate(([VOID], ids.astype(np.int64)))
    order = np.argsort(known)
    found = np.searchsorted(known[order], segments).clip(max=len(known) - 1)
    wrong = known[order][found] != segments
    if wrong.any():
        raise InputError(
            "every segment in a map must be listed for its image",
            value=f"no entry of the id {segments[wrong].min()}",
            where=file,
            repair=_MEND,
        )
    places: np.ndarray = order[found]
    shown = np.bincount(places.ravel(), minlength=len(known))[1:] > 0
    _check_shown(ids.tolist(), shown, file)
    return places


def _check_shown(ids: Sequence[int], shown: np.ndarray, file: Path) -> None:
    missing = [each for each, is_shown in zip(ids, shown, strict=True) if not is_shown]
    if missing:
        raise InputError(
            "a listed segment must have a pixel in the map of its image",
            value=f"none of the id {missing[0]}",
            where=file,
            repair=_MEND,
        )
