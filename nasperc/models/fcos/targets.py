"""What every location of an FCOS head should predict for one image (Tian et al. 2019, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nasperc.models.fcos.preset import SizesOfInterest
from nasperc.models.targets import BACKGROUND, IGNORE, NO_OWNER
from nasperc.ops.boxes import boxes_to_distances, locations


class FCOSTargets(NamedTuple):
    """Targets at P locations, level by level and row by row; a batch has a leading N.

    ``labels`` (P,) int64: class, ``BACKGROUND``, or ``IGNORE`` (inside a crowd region and no positive).
    ``distances`` (P, 4) float32 to left, top, right, bottom in input pixels, 0 where not positive.
    ``centerness`` (P,) float32, 0 where not positive. ``owner`` (P,) int64: index of the box that a location belongs
    to, -1 where not positive; None: not known, as in a feature cache, which has no use for it.
    """

    labels: Tensor
    distances: Tensor
    centerness: Tensor
    owner: Tensor | None = None


def fcos_targets(
    boxes: Tensor,
    labels: Tensor,
    crowd: Tensor,
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes_of_interest: SizesOfInterest,
    centre_sampling_radius: float | None = None,
    size_scale: float = 1.0,
) -> FCOSTargets:
    """Targets of one image.

    A location belongs to the smallest box (equal areas: the first) that it lies strictly inside of and whose
    largest distance falls into the level's size of interest, both ends inclusive.

    Args:
        boxes: (M, 4) as (x1, y1, x2, y2) in input pixels.
        labels: (M,) int64.
        crowd: (M,) bool; such a box is no object, but what lies inside is not background either. It counts in the
            numbering of the owners.
        level_sizes: (H, W) of each level.
        strides: of each level, in input pixels.
        sizes_of_interest: (low, high) of each level, in pixels of a full-size image.
        centre_sampling_radius: in strides; a location must also lie strictly inside the square of that radius
            around the box's centre, cut off at the box. None: the whole box.
        size_scale: factor on the sizes of interest; a proxy task with a short side of S pixels uses S / 800
            (thesis 7.4.1).
    """
    points, strides_at, low, high = _location_table(level_sizes, strides, sizes_of_interest, boxes.device)
    index = (~crowd).nonzero()[:, 0]
    objects, crowds = boxes[index].float(), boxes[crowd].float()
    in_crowd = _inside(points, crowds).any(dim=0)
    out_labels = torch.full((len(points),), BACKGROUND, dtype=torch.int64, device=boxes.device)
    out_labels[in_crowd] = IGNORE
    distances = torch.zeros(len(points), 4, device=boxes.device)
    centerness = torch.zeros(len(points), device=boxes.device)
    owner = torch.full_like(out_labels, NO_OWNER)
    if len(objects) == 0:
        return FCOSTargets(out_labels, distances, centerness, owner)

    # By ascending area, stable: then a location belongs to its first candidate.
    area = (objects[:, 2] - objects[:, 0]) * (objects[:, 3] - objects[:, 1])
    order = torch.sort(area, stable=True).indices
    objects, index = objects[order], index[order]
    to_sides = boxes_to_distances(points, objects[:, None])
    longest = to_sides.amax(dim=-1)
    candidate = (longest >= low * size_scale) & (longest <= high * size_scale)
    candidate &= to_sides.amin(dim=-1) > 0
    if centre_sampling_radius is not None:
        candidate &= _near_centre(points, strides_at * centre_sampling_radius, objects)
    rank = torch.arange(len(objects), device=boxes.device)[:, None]
    first = torch.where(candidate, rank, len(objects)).amin(dim=0)
    positive = first < len(objects)
    first = first[positive]
    owner[positive] = index[first]
    out_labels[positive] = labels[index[first]].to(torch.int64)
    distances[positive] = to_sides[first, positive.nonzero()[:, 0]]
    centerness[positive] = centerness_of(distances[positive])
    return FCOSTargets(out_labels, distances, centerness, owner)


def centerness_of(distances: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of positive ``distances`` (..., 4); shape (...)."""
    left, top, right, bottom = distances.unbind(-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).sqrt()


def _location_table(
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes_of_interest: SizesOfInterest,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For all P locations: position (P, 2), stride, lower and upper size of interest (P,)."""
    points, columns = [], []
    for size, stride, (low, high) in zip(level_sizes, strides, sizes_of_interest, strict=True):
        points.append(locations(size, stride, device))
        columns.append(torch.tensor([[stride, low, high]], device=device).expand(len(points[-1]), 3))
    strides_at, low_at, high_at = torch.cat(columns).unbind(-1)
    return torch.cat(points), strides_at, low_at, high_at


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Which of ``points`` (P, 2) lie strictly inside which of ``boxes`` (M, 4): (M, P) bool."""
    return boxes_to_distances(points, boxes[:, None]).amin(dim=-1) > 0


def _near_centre(points: Tensor, radius: Tensor, boxes: Tensor) -> Tensor:
    """Which locations lie strictly within ``radius`` (P,) pixels of the centres of ``boxes`` (M, 4).

    Shape (M, P), bool. The cut at the box's own sides is the caller's test of lying inside the box.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    offset = (points - centre[:, None]).abs().amax(dim=-1)
    return offset < radius
