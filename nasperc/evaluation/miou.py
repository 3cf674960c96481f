"""Metrics of semantic segmentation, from one confusion matrix that is accumulated over whole images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.data.sample import SEMANTIC_IGNORE


@dataclass(frozen=True)
class SegmentationMetrics:
    """Means are taken over the classes that the ground truth shows; all values are shares of 1, NaN where undefined.

    ``miou``, ``macc``: mean IoU and mean accuracy of the classes. ``gacc``: share of right pixels. ``fwiou``: IoU
    weighted by the pixels of the class. ``tiou``: mean IoU within the trimap. ``iou``, ``acc``: of each class, NaN
    where it does not occur. ``pixels``: of each class in the ground truth.
    """

    miou: float
    macc: float
    gacc: float
    fwiou: float
    tiou: float
    iou: tuple[float, ...]
    acc: tuple[float, ...]
    pixels: tuple[int, ...]

    @property
    def reward(self) -> float:
        """The geometric mean of mIoU, mAcc and fwIoU: the reward of the search (thesis 6.3.3)."""
        return (self.miou * self.macc * self.fwiou) ** (1 / 3)

    def means(self) -> dict[str, float]:
        """The five means by name, less an undefined one."""
        values = {name: getattr(self, name) for name in ("miou", "macc", "gacc", "fwiou", "tiou")}
        return {name: value for name, value in values.items() if not math.isnan(value)}


def confusion_matrix(
    prediction: Tensor, target: Tensor, classes: int, within: Tensor | None = None
) -> Tensor:
    """(C, C) int64: pixels of class i (row) that are predicted as class j (column).

    Args:
        prediction: integers in 0..C - 1, of any shape.
        target: the same shape; 255 is not counted.
        classes: C.
        within: bool of the same shape, the pixels to count; None: all.

    Raises:
        ValueError: the shapes differ, or a value is out of range.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"a prediction of {tuple(prediction.shape)} for a target of {tuple(target.shape)}")
    if within is not None:
        prediction, target = prediction[within], target[within]
    if _outside(target, SEMANTIC_IGNORE):
        raise _out_of_range(classes)
    if _outside(prediction, classes - 1):
        # What is predicted where nothing is counted may be anything.
        counted = target != SEMANTIC_IGNORE
        if _outside(prediction[counted], classes - 1):
            raise _out_of_range(classes)
        prediction = prediction.where(counted, 0)
    # Ignored pixels are counted too, in a row of their own: leaving them out first takes ten times as long.
    pairs = target.long() * classes + prediction
    counts = torch.bincount(pairs.flatten(), minlength=(SEMANTIC_IGNORE + 1) * classes).view(-1, classes)
    if counts[classes:SEMANTIC_IGNORE].any():
        raise _out_of_range(classes)
    return counts[:classes]


def _outside(labels: Tensor, last: int) -> bool:
    return bool(labels.numel() and (labels.min() < 0 or labels.max() > last))


def _out_of_range(classes: int) -> ValueError:
    return ValueError(f"labels and predictions must be in 0..{classes - 1}")


def segmentation_metrics(confusion: Tensor, within_trimap: Tensor | None = None) -> SegmentationMetrics:
    """The metrics of a confusion matrix (C, C), tIoU from a second one of the trimap alone (None: NaN)."""
    matrix = confusion.double().cpu()
    right, pixels = matrix.diagonal(), matrix.sum(dim=1)
    iou, acc = _iou(matrix), right / pixels
    return SegmentationMetrics(
        miou=iou.nanmean().item(),
        macc=acc.nanmean().item(),
        gacc=(right.sum() / pixels.sum()).item(),
        fwiou=((iou * pixels).nansum() / pixels.sum()).item(),
        tiou=math.nan if within_trimap is None else _iou(within_trimap.double().cpu()).nanmean().item(),
        iou=tuple(iou.tolist()),
        acc=tuple(acc.tolist()),
        pixels=tuple(pixels.long().tolist()),
    )


def _iou(matrix: Tensor) -> Tensor:
    """IoU by class; NaN for a class that the ground truth does not show, even where it is predicted: its pixels
    count as wrong ones of the classes that they belong to."""
    right, pixels = matrix.diagonal(), matrix.sum(dim=1)
    return torch.where(pixels > 0, right / (pixels + matrix.sum(dim=0) - right), torch.nan)


class SegmentationEvaluation:
    """Counts pixels of whole images, for each frame position apart; metrics of some positions or of all together.

    Args:
        classes: their number.
        trimap_width: of the band of tIoU in pixels; None leaves tIoU out (it takes most of the time).
    """

    def __init__(self, classes: int, trimap_width: int | None = 3) -> None:
        self.classes = classes
        self.trimap_width = trimap_width
        self._counts: dict[int, Tensor] = {}

    def add(self, prediction: Tensor, target: Tensor, position: int = 0) -> None:
        """Count images.

        Args:
            prediction: (..., H, W) integers in 0..classes - 1, at the size of the annotation.
            target: the same shape; 255 is ignored.
            position: of the frame in its sequence (0: the first).

        Raises:
            ValueError: as :func:`confusion_matrix`.
        """
        whole = confusion_matrix(prediction, target, self.classes)
        band = torch.zeros_like(whole)
        if self.trimap_width is not None:
            band = confusion_matrix(prediction, target, self.classes, trimap(target, self.trimap_width))
        counts = torch.stack((whole, band))
        self._counts[position] = self._counts[position] + counts if position in self._counts else counts

    @property
    def positions(self) -> tuple[int, ...]:
        """The frame positions that were counted, ascending."""
        return tuple(sorted(self._counts))

    def confusion(self, *positions: int) -> Tensor:
        """(2, C, C) int64: over all pixels and within the trimap, at some frame positions; none named: at all."""
        chosen = [each for key, each in self._counts.items() if not positions or key in positions]
        empty = torch.zeros(2, self.classes, self.classes, dtype=torch.int64)
        return torch.stack(chosen).sum(dim=0) if chosen else empty

    def metrics(self, *positions: int) -> SegmentationMetrics:
        """The metrics at some frame positions; none named: over all."""
        whole, band = self.confusion(*positions)
        return segmentation_metrics(whole, None if self.trimap_width is None else band)


def trimap(target: Tensor, width: int = 3, ignore: int = 255) -> Tensor:
    """The pixels from which a pixel of another class is at most ``width`` steps away (diagonal ones count as one).

    So the band has ``width`` pixels on either side of a boundary. Ignored pixels are no class: they neither make
    a boundary nor belong to the band, but classes on both sides of a thin strip of them do.

    Args:
        target: (..., H, W) classes, ``ignore`` where there is none.
        width: in pixels (thesis tables 6.3 and 6.4: 3).
        ignore: the value of pixels without class.

    Returns:
        (..., H, W) bool.
    """
    known = target != ignore
    classes = target.float()
    # The largest and the smallest class in the window around each pixel; where they differ there is a boundary.
    largest = _largest_around(classes.masked_fill(~known, -torch.inf), width)
    smallest = -_largest_around((-classes).masked_fill(~known, -torch.inf), width)
    return known & (largest != smallest)


def _largest_around(values: Tensor, width: int) -> Tensor:
    """The maximum over a square window of 2 * width + 1, first along rows, then along columns."""
    planes = values.reshape(-1, 1, *values.shape[-2:])
    side = 2 * width + 1
    planes = F.max_pool2d(planes, (1, side), stride=1, padding=(0, width))
    planes = F.max_pool2d(planes, (side, 1), stride=1, padding=(width, 0))
    return planes.reshape(values.shape)
