"""The anchors of RetinaNet (Lin et al. 2017, section 4): boxes of set sizes and shapes at every location."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nasperc.ops.boxes import locations

# Side of the first anchor relative to the level's stride: 32 pixels on P3 to 512 on P7.
SIZE_IN_STRIDES = 4
OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
# Height over width; the area stays.
RATIOS = (0.5, 1.0, 2.0)
ANCHORS_PER_LOCATION = len(OCTAVES) * len(RATIOS)


def anchors(
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    scale: float = 1.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """All anchors (P, 4) as (x1, y1, x2, y2) in input pixels: by level, location (row by row), octave, ratio.

    They are centred on the locations of FCOS, and may reach beyond the image.

    Args:
        level_sizes: (H, W) of each level.
        strides: of each level, in input pixels.
        scale: factor on the sizes, for images whose objects are smaller than those of a short side of 800.
        device: of the result.
    """
    by_level = []
    for size, stride in zip(level_sizes, strides, strict=True):
        centres = locations(size, stride, device)
        half = _shapes(stride * SIZE_IN_STRIDES * scale, device) / 2
        by_level.append(torch.cat((centres[:, None] - half, centres[:, None] + half), dim=-1).reshape(-1, 4))
    return torch.cat(by_level)


def by_anchor(levels: Sequence[Tensor]) -> Tensor:
    """Maps (N, A * C, H_l, W_l) of all levels, A anchors at a location, as (N, P, C), in the order of the anchors."""
    return torch.cat(
        [
            level.permute(0, 2, 3, 1).reshape(len(level), -1, level.shape[1] // ANCHORS_PER_LOCATION)
            for level in levels
        ],
        dim=1,
    )


def _shapes(side: float, device: torch.device | str | None) -> Tensor:
    """Width and height (A, 2) of the anchors of one level."""
    return torch.tensor(
        [(side * octave / ratio**0.5, side * octave * ratio**0.5) for octave in OCTAVES for ratio in RATIOS],
        device=device,
    )
