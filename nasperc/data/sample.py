"""The one sample type of all tasks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nasperc.data.object_masks import ObjectMasks
from nasperc.models.instances import Instances
from nasperc.models.panoptic.segmentation import SEMANTIC_IGNORE as SEMANTIC_IGNORE


@dataclass(frozen=True)
class Meta:
    """Where a sample came from. ``size``: (height, width) of the original image in pixels."""

    image_id: int
    file: Path
    size: tuple[int, int]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One image with its annotations; fields that a data set does not have are None.

    ``image``: (3, H, W) uint8 RGB. ``boxes``: (N, 4) float32, (x1, y1, x2, y2) in pixels, x2 and y2 exclusive
    edges. ``labels``: (N,) int64, contiguous from 0. ``crowd``: (N,) bool, regions that are ignored in
    training and evaluation (COCO crowd, VOC difficult; a preset may leave COCO's out of the training).
    ``masks``: the shapes of the N objects. ``semantic``: (H, W) int64, classes from 0, 255 where nothing is trained or
    measured; of a panoptic data set see :mod:`nasperc.models.panoptic.segmentation`. ``panoptic``: (H, W) int64, k for
    the segment k - 1 of the image's list, 0 is void. A sequence is a list of samples.
    """

    image: Tensor
    meta: Meta
    boxes: Tensor | None = None
    labels: Tensor | None = None
    crowd: Tensor | None = None
    masks: ObjectMasks | None = None
    semantic: Tensor | None = None
    panoptic: Tensor | None = None

    @property
    def instances(self) -> Instances:
        """The annotated objects.

        Raises:
            ValueError: the data set has none.
        """
        if self.boxes is None:
            raise ValueError(f"{self.meta.file} has no boxes")
        return Instances(self.boxes, self.labels, self.crowd, masks=self.masks)

    def with_fields(self, **fields: Any) -> Sample:
        """A copy with some fields replaced."""
        return replace(self, **fields)
