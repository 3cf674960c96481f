"""What passes between backbone, neck and head.

Legend used in shapes: N images, C channels, H and W the size of a level, K classes, L levels.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from torch import Tensor, nn

# Height and width of a batch are multiples of it, unless the network asks for another one: the largest stride that
# halves exactly.
DIVISOR = 32


def padded_size(size: tuple[float, float], divisor: int = DIVISOR) -> tuple[int, int]:
    """(H, W), each rounded up to a multiple of ``divisor``."""
    height, width = (math.ceil(side / divisor) * divisor for side in size)
    return height, width


class FeatureSpec(NamedTuple):
    """One feature level: ``stride`` in input pixels, e.g. ``FeatureSpec("C3", 32, 8)``."""

    name: str
    channels: int
    stride: int


class HeadOutput(NamedTuple):
    """Output of a dense head, each field a list by level.

    ``cls_tower`` and ``box_tower`` ``(N, C, H, W)``: what mask and top layers attach to.
    ``class_logits`` ``(N, K, H, W)``; ``boxes`` ``(N, 4, H, W)``: distances to left, top, right, bottom in
    input pixels, never negative; ``centerness`` ``(N, 1, H, W)``, logits.
    """

    cls_tower: list[Tensor]
    box_tower: list[Tensor]
    class_logits: list[Tensor]
    boxes: list[Tensor]
    centerness: list[Tensor]


class Backbone(Protocol):
    """``forward(images (N, 3, H, W)) -> list`` of features in the order of ``out``."""

    out: tuple[FeatureSpec, ...]

    def __call__(self, images: Tensor) -> list[Tensor]: ...


class Neck(Protocol):
    """``forward(features) -> levels``: features in the order given at construction, levels as ``out``."""

    out: tuple[FeatureSpec, ...]

    def __call__(self, features: list[Tensor]) -> list[Tensor]: ...


class Towers(Protocol):
    """The feature towers of a head: ``forward(levels) -> (cls_tower, box_tower)``, each a list by level."""

    out_channels: int

    def __call__(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]: ...


class Head(Protocol):
    """A dense head: ``forward(levels) -> HeadOutput``; ``levels`` are the neck's, its coarsest where not all."""

    out_channels: int
    levels: tuple[FeatureSpec, ...]
    towers: nn.Module

    def __call__(self, levels: list[Tensor]) -> HeadOutput: ...
