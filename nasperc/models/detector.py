"""What every one-stage detector has in common: backbone -> neck -> head, trained and asked in the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.features import DIVISOR, FeatureSpec
from nasperc.models.instances import Instances
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.targets import Crowd, stack_targets


class DetectorOutput(NamedTuple):
    """All that a detector computed of N images, for what is built on it: bases read features, top layers towers.

    ``backbone`` and ``neck``: lists by level of (N, C, H, W), in the order of ``backbone.out`` and ``neck.out``.
    ``head``: a named tuple of the detector's own.
    """

    backbone: list[Tensor]
    neck: list[Tensor]
    head: Any


class Detector(nn.Module, ABC):
    """A detector of any backbone, neck and head that keep the contracts of ``features.py``.

    Full training, evaluation and prediction know this class only. What its head puts out, and its targets, are named
    tuples of the subclass's own.

    ``divisor``: H and W of a batch are multiples of it; whoever makes a batch pads it to that. A subclass, or an
    instance of it, may have another one.
    """

    divisor: int = DIVISOR

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    @property
    def levels(self) -> tuple[FeatureSpec, ...]:
        """What the head looks at: the coarsest levels of the neck. A P2 is for what reads the neck beside it."""
        levels: tuple[FeatureSpec, ...] = self.head.levels  # type: ignore[assignment]
        return levels

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each level in input pixels."""
        return tuple(spec.stride for spec in self.levels)

    @property
    @abstractmethod
    def crowd(self) -> Crowd:
        """What COCO's crowd regions are to the training: those that are background are left out of the data."""

    def forward(self, images: Tensor) -> DetectorOutput:
        """Of normalised ``images`` (N, 3, H, W).

        Raises:
            InputError: H or W is not a multiple of ``divisor``.
        """
        height, width = images.shape[-2:]
        if height % self.divisor or width % self.divisor:
            raise InputError(
                f"height and width of the images must be multiples of {self.divisor}",
                value=f"{height} x {width}",
                where="input of the detector",
                repair="Pad the images at the bottom and at the right.",
            )
        return self.forward_features(self.backbone(images))

    def forward_features(self, features: list[Tensor]) -> DetectorOutput:
        """Of backbone features, e.g. cached ones."""
        levels = self.neck(features)
        return DetectorOutput(features, levels, self.head(levels[-len(self.levels) :]))

    @abstractmethod
    def targets(
        self, instances: Instances, level_sizes: Sequence[tuple[int, int]], size_scale: float = 1.0
    ) -> Any:
        """What one image should give, as a named tuple of tensors.

        Its field ``owner`` (P,) int64 says which object a place belongs to: an index into ``instances``, -1 where
        there is none.

        Args:
            instances: M annotations with ``boxes`` in input pixels, ``labels`` and ``crowd``; what is crowd is no
                object, but what lies inside is not background either. On the device of the result.
            level_sizes: (H, W) of each of ``levels``.
            size_scale: size of the objects relative to those that the head is made for (thesis 7.4.1).
        """

    def stack(self, targets: Sequence[Any]) -> Any:
        """Targets of the images of a batch as :meth:`losses` takes them.

        A detector whose targets are not of one size for every image (masks) says here what is done with them.
        """
        return stack_targets(targets)

    def on_progress(self, fraction: float) -> None:
        """Called before each iteration of a training with the share of its iterations that are done, 0 <= fraction < 1.

        A detector whose losses change on the way remembers it. It is no state to be stored: a training that goes on
        says it again, in each of its processes.
        """

    @abstractmethod
    def losses(self, output: DetectorOutput, targets: Any, reduce: Reduce = reduce_alone) -> Any:
        """Losses of a batch against stacked targets, as a named tuple of scalars.

        ``reduce``: where this is one process's part of a batch, the sum of the normalisers over all of them; the
        losses, and their gradients, then add up to those of the whole batch.
        """

    @abstractmethod
    def detect(self, output: DetectorOutput, image_sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """Detections of each image by descending score: ``boxes`` in input pixels, ``labels`` and ``scores``.

        ``image_sizes``: (h, w) of each, without padding.
        """
