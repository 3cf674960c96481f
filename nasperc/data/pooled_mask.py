"""A bitmap inside a box: RoIAlign (aligned, adaptive sampling) of one mask, as a product of two small matrices."""

from __future__ import annotations

import math

import numpy as np

from nasperc.data.pixel_axis import NOWHERE, PixelAxis

# Float32 sums of the weights of a cell, which are below 1, are off by less.
_ROUNDING = 1e-5


def pooled_mask(
    bitmap: np.ndarray, rows: PixelAxis, columns: PixelAxis, box: np.ndarray, side: int
) -> np.ndarray:
    """(R, R) bool: where the mean of the samples of a cell of the box is one half or more.

    RoIAlign is separable: both its bilinear samples and its rule for those outside of the image are products of a
    factor by row and one by column. So is a resizing to the nearest pixels, and the transformed image is never made.

    Args:
        bitmap: (h, w) of the original image, not zero inside.
        rows: the sides of the image as it is now.
        columns: as ``rows``.
        box: (4,) as (x1, y1, x2, y2) in pixels of the image as it is now.
        side: R.
    """
    x1, y1, x2, y2 = box.tolist()
    by_row, chosen_rows = _weights(rows, y1, y2, side)
    by_column, chosen_columns = _weights(columns, x1, x2, side)
    seen = bitmap[chosen_rows, chosen_columns] != 0
    means: np.ndarray = by_row @ seen.astype(np.float32) @ by_column.T
    return means >= 0.5 - _ROUNDING


def _weights(axis: PixelAxis, start: float, stop: float, side: int) -> tuple[np.ndarray, slice]:
    """(R, count) float32: how much each of ``count`` pixels of the original counts in each cell of a box along one
    side of the image; which pixels these are."""
    cell = (stop - start) / side
    samples = max(0, math.ceil(cell))
    # Aligned: the centre of pixel k, at k + 0.5, is where its value stands.
    inside = (np.arange(samples) + 0.5) * (cell / max(1, samples))
    positions = start - 0.5 + np.arange(side)[:, None] * cell + inside
    counted = (positions >= -1) & (positions <= len(axis))
    positions = np.clip(positions, 0, len(axis) - 1)
    below = np.floor(positions).astype(np.int64)
    fraction = positions - below
    neighbours = np.stack((below, np.minimum(below + 1, len(axis) - 1)))
    sources = axis.sources[neighbours]
    known = counted & (sources != NOWHERE)
    if not known.any():
        return np.zeros((side, 0), np.float32), slice(0, 0)
    first, last = int(sources[known].min()), int(sources[known].max())
    cells = np.broadcast_to(np.arange(side)[:, None], sources.shape)[known]
    count = last - first + 1
    weights = np.bincount(
        cells * count + sources[known] - first,
        np.stack((1 - fraction, fraction))[known] / samples,
        minlength=side * count,
    )
    return weights.reshape(side, count).astype(np.float32), slice(first, last + 1)
