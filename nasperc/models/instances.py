"""The objects of one image: annotated or found, one type for both.

Legend used in shapes: M objects, R side of a mask inside its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from nasperc.ops.boxes import clip_boxes

Self = TypeVar("Self", bound="Masks")
# The box that a mask is pasted into, where a detection's box leaves the image: clipped, or the one it was pooled with.
PasteInto = Literal["clipped_box", "pooled_box"]


class Masks(Protocol):
    """Shapes of M annotated objects in pixels of their image, however they are kept (polygons, bitmaps)."""

    def __len__(self) -> int: ...

    def __getitem__(self: Self, index: Tensor) -> Self:
        """Those at ``index``: (K,) int64, or (M,) bool."""
        ...

    def within(self, boxes: Tensor, side: int) -> Tensor:
        """Each shape inside its box, stretched to a square: (M, R, R) bool.

        Args:
            boxes: (M, 4) as (x1, y1, x2, y2) in pixels; they need not lie inside of the image.
            side: R.
        """
        ...


@dataclass(frozen=True)
class Instances:
    """Fields that are not known are None; every other one has M entries, and all survive a selection.

    ``boxes`` (M, 4) float32 as (x1, y1, x2, y2) in pixels; ``labels`` (M,) int64; ``crowd`` (M,) bool, such an object
    is none; ``scores`` (M,) in 0..1. ``masks``: of annotations :class:`Masks`, of detections (M, R, R) float in 0..1
    inside of their boxes. ``location`` (M,) int64: where a detection was found, level by level and row by row, as in
    the targets. ``pooled`` (M, 4): the boxes that masks are of, where these are not to follow ``boxes`` when they are
    clipped.
    """

    boxes: Tensor
    labels: Tensor | None = None
    crowd: Tensor | None = None
    scores: Tensor | None = None
    masks: Tensor | Masks | None = None
    location: Tensor | None = None
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor) -> Instances:
        """The objects at ``index``: (K,) int64, or (M,) bool."""
        return Instances(**{name: value[index] for name, value in self._known().items()})

    def to(self, device: torch.device | str) -> Instances:
        """On ``device``; annotated masks stay where they are, since they are no tensors."""
        known = self._known().items()
        return Instances(
            **{name: value.to(device) if isinstance(value, Tensor) else value for name, value in known}
        )

    def with_fields(self, **values: Any) -> Instances:
        """A copy with some fields replaced."""
        return replace(self, **values)

    def rescale(self, size: tuple[int, int], to: tuple[int, int]) -> Instances:
        """Detections in pixels of another size of their image: scaled, clipped, empty boxes dropped. ``pooled`` is
        scaled, too, and not clipped.

        Args:
            size: (h, w) of the image that they are in, without padding.
            to: (h, w) of the one that they should be in.
        """
        y_scale, x_scale = (after / before for after, before in zip(to, size, strict=True))
        factors = self.boxes.new_tensor((x_scale, y_scale, x_scale, y_scale))
        boxes = clip_boxes(self.boxes * factors, to)
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        pooled = None if self.pooled is None else self.pooled * factors
        return self.with_fields(boxes=boxes, pooled=pooled)[kept]

    @property
    def mask_boxes(self) -> Tensor:
        """(M, 4): what ``masks`` fill."""
        return self.boxes if self.pooled is None else self.pooled

    @staticmethod
    def cat(parts: Sequence[Instances]) -> Instances:
        """All objects of ``parts``, at least one, which know the same fields, none of them annotated masks."""
        names = parts[0]._known()
        return Instances(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def _known(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
