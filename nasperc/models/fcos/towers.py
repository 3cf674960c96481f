"""The original towers of FCOS: two stacks of 3x3 convolutions, shared by all levels."""

from __future__ import annotations

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.normalisation import GroupNorm

_GROUPS = 32


class FCOSTowers(nn.Module):
    """``forward(levels) -> (cls_tower, box_tower)``, each a list by level of (N, ``width``, H, W).

    ``depth`` x (3x3 convolution with bias, GroupNorm of 32 groups, ReLU), separate for class and box; ``merged``: one
    tower that is both (thesis 4.4.2, BlendMask-RT).

    Raises:
        InputError: ``width`` is not a multiple of 32; ``depth`` is less than 1.
    """

    def __init__(self, in_channels: int, width: int, depth: int = 4, *, merged: bool = False) -> None:
        super().__init__()
        if width % _GROUPS or depth < 1:
            raise InputError(
                "an FCOS tower needs a width that is a multiple of 32 and at least one layer",
                value=f"width {width}, depth {depth}",
                where="head",
                repair="Choose a width of 32, 64, 128 or 256 and a depth of 1 to 4.",
            )
        self.out_channels = width
        self.merged = merged
        if merged:
            self.tower = _tower(in_channels, width, depth)
        else:
            self.cls_tower = _tower(in_channels, width, depth)
            self.box_tower = _tower(in_channels, width, depth)

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        if self.merged:
            tower = [self.tower(level) for level in levels]
            return tower, tower
        return [self.cls_tower(level) for level in levels], [self.box_tower(level) for level in levels]


def _tower(in_channels: int, width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        conv = nn.Conv2d(in_channels, width, 3, padding=1)
        nn.init.normal_(conv.weight, std=0.01)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, GroupNorm(_GROUPS, width), nn.ReLU(inplace=True)]
        in_channels = width
    return nn.Sequential(*layers)
