"""What every one-stage detector has in common: backbone -> neck -> head, trained and asked in the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.fcos.decode import Detections
from nasperc.models.fcos.preset import Crowd
from nasperc.models.features import FeatureSpec
from nasperc.models.reduction import Reduce, reduce_alone

_DIVISOR = 32


class Detector(nn.Module, ABC):
    """A detector of any backbone, neck and head that keep the contracts of ``features.py``.

    Full training, evaluation and prediction know this class only. Its output and its targets are named tuples
    of the subclass's own; an output has ``class_logits``, a list by level of (N, ..., H, W).
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    @property
    def levels(self) -> tuple[FeatureSpec, ...]:
        """What the neck puts out."""
        levels: tuple[FeatureSpec, ...] = self.neck.out  # type: ignore[assignment]
        return levels

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each level in input pixels."""
        return tuple(spec.stride for spec in self.levels)

    @property
    @abstractmethod
    def crowd(self) -> Crowd:
        """What COCO's crowd regions are to the training: those that are background are left out of the data."""

    def forward(self, images: Tensor) -> Any:
        """Head output of normalised ``images`` (N, 3, H, W).

        Raises:
            InputError: H or W is not a multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % _DIVISOR or width % _DIVISOR:
            raise InputError(
                f"height and width of the images must be multiples of {_DIVISOR}",
                value=f"{height} x {width}",
                where="input of the detector",
                repair="Pad the images at the bottom and at the right.",
            )
        return self.forward_features(self.backbone(images))

    def forward_features(self, features: list[Tensor]) -> Any:
        """Head output of backbone features, e.g. cached ones."""
        return self.head(self.neck(features))

    @abstractmethod
    def targets(
        self,
        boxes: Tensor,
        labels: Tensor,
        crowd: Tensor,
        level_sizes: Sequence[tuple[int, int]],
        size_scale: float = 1.0,
    ) -> Any:
        """What one image should give, as a named tuple of tensors; those of a batch are stacked.

        Args:
            boxes: (M, 4) as (x1, y1, x2, y2) in input pixels.
            labels: (M,) int64.
            crowd: (M,) bool; such a box is no object, but what lies inside is not background either.
            level_sizes: (H, W) of each level.
            size_scale: size of the objects relative to those that the head is made for (thesis 7.4.1).
        """

    @abstractmethod
    def losses(self, output: Any, targets: Any, reduce: Reduce = reduce_alone) -> Any:
        """Losses of a batch against stacked targets, as a named tuple of scalars.

        ``reduce``: where this is one process's part of a batch, the sum of the normalisers over all of them; the
        losses, and their gradients, then add up to those of the whole batch.
        """

    @abstractmethod
    def detect(self, output: Any, image_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detections of each image in input pixels; ``image_sizes`` (h, w) without padding."""
