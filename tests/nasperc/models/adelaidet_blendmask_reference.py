"""AdelaiDet's BlendMask written out from its rules and on its own key names, on top of its FCOS.

Nothing here imports the project: one instance after the other, one line of its mask or of its pixels after the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from adelaidet_reference import Found, State, detections, fpn, head, resnet
from torch import Tensor
from torch.nn import functional as F

SIDE, STRIDE = 56, 4


class Segmented(NamedTuple):
    """One instance: ``mask`` (56, 56) in 0..1 inside of ``found.seen``; ``pixels`` (H, W) in 0..1 of the image."""

    found: Found
    mask: Tensor
    pixels: Tensor


def instances(
    state: State, images: Tensor, network_size: tuple[int, int], output_size: tuple[int, int]
) -> list[Segmented]:
    """Those of one image (1, 3, H, W) by descending score; sizes (h, w): without padding, and of the original."""
    pyramid = fpn(state, resnet(state, "backbone.bottom_up.", images))
    levels = head(state, pyramid)
    maps = bases(state, pyramid[:3])[0]
    attentions = []
    for each in levels:
        assert each.box_tower is not None
        attentions.append(
            F.conv2d(each.box_tower, state["top_layer.weight"], state["top_layer.bias"], padding=1)
        )
    segmented = []
    for found in detections(levels, 0, network_size, output_size, threshold_with_centerness=True):
        level, row, column = found.place
        mask = blended(maps, found.seen, attentions[level][0, :, row, column]).sigmoid()
        segmented.append(Segmented(found, mask, pasted(mask, found.box, output_size)))
    return segmented


def bases(state: State, levels: list[Tensor]) -> Tensor:
    """P3, P4 and P5 to (N, K, H / 4, W / 4)."""

    def conv_norm_relu(name: str, x: Tensor) -> Tensor:
        x = F.conv2d(x, state[f"{name}.0.weight"], padding=1)
        scale, shift, mean, var = (
            state[f"{name}.1.{field}"].view(1, -1, 1, 1)
            for field in ("weight", "bias", "running_mean", "running_var")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    refined = [conv_norm_relu(f"basis_module.refine.{n}", level) for n, level in enumerate(levels)]
    size = refined[0].shape[-2:]
    x = sum(stretched(each, size) for each in refined)
    assert isinstance(x, Tensor)
    layer = 0
    # A number is left out where the upsampling stands.
    while f"basis_module.tower.{layer}.0.weight" in state:
        x = conv_norm_relu(f"basis_module.tower.{layer}", x)
        layer += 1
    x = stretched(x, (2 * size[0], 2 * size[1]))
    x = conv_norm_relu(f"basis_module.tower.{layer + 1}", x)
    return F.conv2d(
        x, state[f"basis_module.tower.{layer + 2}.weight"], state[f"basis_module.tower.{layer + 2}.bias"]
    )


def stretched(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear: of each new row, and of each new column then, two old ones by how near their middles are."""
    for axis, length in ((-2, size[0]), (-1, size[1])):
        old = x.shape[axis]
        lines = []
        for n in range(length):
            place = min(max((n + 0.5) * old / length - 0.5, 0), old - 1)
            before = math.floor(place)
            after = min(before + 1, old - 1)
            lines.append(
                x.select(axis, before) * (1 - place + before) + x.select(axis, after) * (place - before)
            )
        x = torch.stack(lines, axis)
    return x


def blended(maps: Tensor, box: list[float], scores: Tensor) -> Tensor:
    """Bases (K, H, W) in the box, one sample a cell, times the scores' softmax over the bases: logits (56, 56)."""
    count = len(maps)
    side = math.isqrt(len(scores) // count)
    shares = stretched(scores.view(1, count, side, side), (SIDE, SIDE))[0]
    shares = shares.exp() / shares.exp().sum(0)
    left, top, right, bottom = (value / STRIDE - 0.5 for value in box)
    region = taken(taken(maps, top, bottom, -2), left, right, -1)
    return (region * shares).sum(0)


def taken(maps: Tensor, low: float, high: float, axis: int) -> Tensor:
    """Lines at the middles of 56 parts of what lies between ``low`` and ``high``, in cells of ``axis``: of two lines by
    how near they are; the first and the last one go on for a cell, and further out there is nothing."""
    cells = maps.shape[axis]
    lines = []
    for n in range(SIDE):
        place = low + (n + 0.5) * (high - low) / SIDE
        inside = min(max(place, 0), cells - 1)
        before = math.floor(inside)
        after = min(before + 1, cells - 1)
        line = maps.select(axis, before) * (1 - inside + before) + maps.select(axis, after) * (
            inside - before
        )
        lines.append(line * (-1 <= place <= cells))
    return torch.stack(lines, axis)


def pasted(mask: Tensor, box: list[float], size: tuple[int, int]) -> Tensor:
    """The mask, zero around it, at the middles of the pixels of an image of ``size``."""

    def weights(low: float, high: float, pixels: int) -> Tensor:
        rows = torch.zeros(pixels, SIDE)
        for pixel in range(pixels):
            place = (pixel + 0.5 - low) / (high - low) * SIDE - 0.5
            for cell in (math.floor(place), math.floor(place) + 1):
                if 0 <= cell < SIDE:
                    rows[pixel, cell] = 1 - abs(place - cell)
        return rows

    rows, columns = weights(box[1], box[3], size[0]), weights(box[0], box[2], size[1])
    return rows @ mask @ columns.t()
