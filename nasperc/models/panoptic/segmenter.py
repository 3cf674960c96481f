"""What every panoptic network has in common: an instance segmenter, and what says of pixels whose they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nasperc.models.detector import DetectorOutput
from nasperc.models.instance_segmenter import InstanceSegmenter, WholeSegmenter
from nasperc.models.instances import Instances
from nasperc.models.panoptic.segmentation import PanopticSegmentation
from nasperc.models.reduction import Reduce, reduce_alone


class PanopticSegmenter(InstanceSegmenter, ABC):
    """The classes of its head are the things, and there are ``stuff`` classes beside them. Training, evaluation and
    prediction of panoptic networks know this class only.

    A model is a subclass of an instance segmenter and of this class, in that order.
    """

    stuff: int

    @property
    def things(self) -> int:
        """Their number."""
        number: int = self.head.num_classes  # type: ignore[assignment]
        return number

    @abstractmethod
    def pixel_logits(self, output: DetectorOutput) -> Tensor:
        """(N, C, H, W), what the segmentation is made from beside the instances: part of what an image costs."""

    @abstractmethod
    def panoptic_losses(
        self, output: DetectorOutput, targets: Any, semantic: Tensor, reduce: Reduce = reduce_alone
    ) -> dict[str, Tensor]:
        """Losses of a batch by name, weighted scalars, which come beside those of the instances.

        Args:
            output: of the batch.
            targets: stacked, as for :meth:`Detector.losses`.
            semantic: (N, H, W) int64 of the padded images: ``THINGS``, 1 + k of stuff k, or ``SEMANTIC_IGNORE``.
            reduce: as for :meth:`Detector.losses`.
        """

    @abstractmethod
    def segment(
        self,
        output: DetectorOutput,
        found: Sequence[Instances],
        image_sizes: Sequence[tuple[int, int]],
        sizes: Sequence[tuple[int, int]],
        confidence: float | None = None,
    ) -> list[PanopticSegmentation]:
        """The segmentation of each image, in the pixels of the original.

        Args:
            output: of the batch.
            found: the instances of each image, as :meth:`Detector.detect` gives them, boxes in pixels of the original.
            image_sizes: (h, w) of each image that the network saw, without padding.
            sizes: (H, W) of each original image.
            confidence: the lowest score of an instance; None: the model's own.
        """


class WholePanoptic(WholeSegmenter):
    """All that an image costs: ``forward(images (1, 3, H, W)) -> masks (D, R, R), logits (1, C, H, W)``."""

    model: PanopticSegmenter

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        output: DetectorOutput = self.model(images)
        return self.masks(output, images), self.model.pixel_logits(output)
