"""The mask predictors of SmalMask (thesis 3.3.1, Figure 3.3), computed where masks are looked at.

Legend used in shapes: N images, C channels, Q objects, O channels of a mask (R * R), k side of the kernel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.gather import gather_patches
from nasperc.models.sample_levels import Cells, cells_of, of_levels, sample_levels
from nasperc.models.smalmask.recipe import PredictorName
from nasperc.ops.patch_conv import PatchConv2d
from nasperc.ops.roi_pred import RoIPred, at_border, box_centres


class Objects(NamedTuple):
    """Q objects: ``image`` (Q,) int64; ``location`` (Q,) int64 at which each is predicted, as in the targets;
    ``boxes`` (Q, 4) in input pixels, to which a predictor is aligned."""

    image: Tensor
    location: Tensor
    boxes: Tensor


class MaskPredictor(nn.Module, ABC):
    """``forward(maps, objects, distances) -> logits (Q, O)``, at any Q, 0 included.

    ``maps``: by level of boxes the map (N, C, H', W') that masks are predicted from there. ``distances``: the boxes at
    all locations by level, (N, 4, H, W), in input pixels.

    Args:
        channels: C.
        out_channels: O.
        kernel: k.
        strides: of the levels of boxes, in input pixels.
        lower: by level of boxes, how many times the stride of its map is half of that.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, strides: Sequence[int], lower: Sequence[int]
    ) -> None:
        super().__init__()
        self.kernel, self.strides, self.lower = kernel, tuple(strides), tuple(lower)
        self.conv = PatchConv2d(channels, out_channels, kernel)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    @abstractmethod
    def forward(self, maps: Sequence[Tensor], objects: Objects, distances: Sequence[Tensor]) -> Tensor: ...

    def cells(self, objects: Objects, distances: Sequence[Tensor]) -> Cells:
        return cells_of(objects.location, [(each.shape[-2], each.shape[-1]) for each in distances])


class ConvPredictor(MaskPredictor):
    """A convolution. On a lower map its taps lie around the location, which is between cells there."""

    def forward(self, maps: Sequence[Tensor], objects: Objects, distances: Sequence[Tensor]) -> Tensor:
        cells = self.cells(objects, distances)
        y, x = self.taps(cells)
        found: Tensor = self.conv(sample_levels(maps, objects.image, cells.level, y, x).flatten(1))
        return found

    def taps(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """Where the taps of a regular kernel are, (Q, k * k) in cells of the map that is read."""
        steps = of_levels(cells.level, [2**each for each in self.lower])
        tap = torch.arange(self.kernel, device=steps.device) - self.kernel // 2
        y, x = (
            (each * steps + (steps - 1) / 2)[:, None] + taps
            for each, taps in (
                (cells.row, tap.repeat_interleave(self.kernel)),
                (cells.column, tap.repeat(self.kernel)),
            )
        )
        return y, x


class DefConvPredictor(ConvPredictor):
    """A modulated deformable convolution that learns its offsets, one deformable group."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int, strides: Sequence[int], lower: Sequence[int]
    ) -> None:
        super().__init__(channels, out_channels, kernel, strides, lower)
        self.offset_mask = PatchConv2d(channels, 3 * kernel**2, kernel)
        for parameter in self.offset_mask.parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Sequence[Tensor], objects: Objects, distances: Sequence[Tensor]) -> Tensor:
        cells = self.cells(objects, distances)
        y, x = self.taps(cells)
        regular = sample_levels(maps, objects.image, cells.level, y, x)
        taps = self.kernel**2
        offset, mask = self.offset_mask(regular.flatten(1)).float().split((2 * taps, taps), dim=1)
        dy, dx = offset.unflatten(1, (taps, 2)).unbind(2)
        moved = sample_levels(maps, objects.image, cells.level, y + dy, x + dx, mask.sigmoid())
        found: Tensor = self.conv(moved.flatten(1))
        return found


class RoIPredPredictor(MaskPredictor):
    """RoIPred, which at single locations is RoIAlign with bins of one sample, and one linear layer."""

    def forward(self, maps: Sequence[Tensor], objects: Objects, distances: Sequence[Tensor]) -> Tensor:
        return self.at(maps, objects.image, self.cells(objects, distances).level, objects.boxes)

    def at(self, maps: Sequence[Tensor], image: Tensor, level: Tensor, boxes: Tensor) -> Tensor:
        """(Q, O) of ``boxes`` (Q, 4) on the maps of the given ``level`` (Q,)."""
        cell = of_levels(
            level.to(boxes.dtype), [s / 2**lower for s, lower in zip(self.strides, self.lower, strict=True)]
        )
        corners = boxes.detach() / cell[:, None] - 0.5
        y, x = (
            at_border(
                box_centres(corners[:, axis], corners[:, axis + 2], self.kernel),
                of_levels(level, [each.shape[3 - axis] for each in maps])[:, None],
            )
            for axis in (1, 0)
        )
        y, x = y.repeat_interleave(self.kernel, 1), x.repeat(1, self.kernel)
        found: Tensor = self.conv(sample_levels(maps, image, level, y, x).flatten(1))
        return found


class RoIConvPredictor(MaskPredictor):
    """A layer aligned to the box of every location, ReLU, and a convolution of what it gives (Chen et al., RoIConv).

    The aligned layer has to be computed at all locations: the convolution reads it around its own, where boxes are
    others.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, strides: Sequence[int], lower: Sequence[int]
    ) -> None:
        super().__init__(channels, out_channels, kernel, strides, lower)
        self.align = RoIPred(channels, channels, kernel)
        nn.init.kaiming_normal_(self.align.weight, nonlinearity="relu")
        nn.init.zeros_(self.align.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor], objects: Objects, distances: Sequence[Tensor]) -> Tensor:
        aligned = [
            F.relu(self.align(*each)) for each in zip(maps, distances, self.strides, self.lower, strict=True)
        ]
        found: Tensor = self.conv(gather_patches(aligned, objects.image, objects.location, self.kernel))
        return found


PREDICTORS: dict[PredictorName, type[MaskPredictor]] = {
    "conv": ConvPredictor,
    "def_conv": DefConvPredictor,
    "roi_conv": RoIConvPredictor,
    "roi_pred": RoIPredPredictor,
}
