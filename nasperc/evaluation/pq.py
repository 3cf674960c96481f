"""Panoptic quality (Kirillov et al. 2019, *Panoptic Segmentation*): PQ, SQ and RQ of all classes, of things, of stuff.

Legend used in shapes: G annotated and P predicted segments of an image, C classes, things first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from nasperc.models.panoptic.segmentation import PanopticSegmentation


@dataclass(frozen=True)
class PanopticMetrics:
    """Means over the classes that occur, in 0..1; None where none does.

    ``pq``, ``sq``, ``rq``: of all classes; with ``_things`` and ``_stuff`` of these alone. A class occurs where it has
    a match, a miss or a false alarm. ``per_class``: PQ by name; None of a class that does not occur.
    """

    pq: float | None
    sq: float | None
    rq: float | None
    pq_things: float | None
    sq_things: float | None
    rq_things: float | None
    pq_stuff: float | None
    sq_stuff: float | None
    rq_stuff: float | None
    per_class: dict[str, float | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Counts:
    """Of one image, all (C,): ``iou``, the sum over the matches, float64; ``matches``, ``false_alarms``, ``misses``."""

    iou: Tensor
    matches: Tensor
    false_alarms: Tensor
    misses: Tensor


class PanopticEvaluation:
    """Counts images, and gives the metrics of all of them together.

    Args:
        things: their number.
        stuff: the number of classes of stuff.

    Attributes:
        counts: (4, C) float64: the sum of IoU over the matches, matches, false alarms, misses.
    """

    def __init__(self, things: int, stuff: int) -> None:
        self.things, self.classes = things, things + stuff
        self.counts = torch.zeros(4, self.classes, dtype=torch.float64)

    def add(self, prediction: PanopticSegmentation, truth: PanopticSegmentation) -> None:
        """Count one image.

        Raises:
            ValueError: the maps differ in size; a label is none of the classes.
        """
        found = _count(prediction, truth, self.classes)
        self.counts += torch.stack((found.iou, found.matches, found.false_alarms, found.misses)).cpu()

    def metrics(self, names: Sequence[str] = ()) -> PanopticMetrics:
        """Of all images that were counted.

        Args:
            names: of the classes, for those of each; none: these are left out.
        """
        iou, matches, false_alarms, misses = self.counts
        weight = matches + (false_alarms + misses) / 2
        occurs = weight > 0
        pq, rq = iou / weight, matches / weight
        sq = torch.where(matches > 0, iou / matches, 0.0)
        is_thing = torch.arange(self.classes) < self.things

        def mean(values: Tensor, among: Tensor) -> float | None:
            chosen = values[occurs & among]
            return float(chosen.mean()) if len(chosen) else None

        def means(among: Tensor) -> tuple[float | None, float | None, float | None]:
            return mean(pq, among), mean(sq, among), mean(rq, among)

        per_class = {
            name: float(value) if known else None
            for name, value, known in zip(names, pq, occurs, strict=bool(names))
        }
        return PanopticMetrics(
            *means(torch.ones_like(is_thing)), *means(is_thing), *means(~is_thing), per_class
        )


def _count(prediction: PanopticSegmentation, truth: PanopticSegmentation, classes: int) -> _Counts:
    """A pass over the pixels counts how many of them each pair of segments shares; the rest is said of pairs.

    The rules are those of COCO's own code: an annotated and a predicted segment of a class match where their IoU is
    above one half, the pixels of the prediction that are void in the annotation being no part of the union. A match is
    the only one of either. Crowds match nothing, and missing one is no miss. What is predicted without a match is no
    false alarm where more than half of it is void or lies in crowds of its class (of which there may be several: COCO's
    code takes the last one, and its data have one).
    """
    if prediction.map.shape != truth.map.shape:
        raise ValueError(
            f"a prediction of {tuple(prediction.map.shape)} for an image of {tuple(truth.map.shape)}"
        )
    for labels in (prediction.labels, truth.labels):
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"labels must be in 0..{classes - 1}")
    width = len(prediction) + 1
    pairs = truth.map * width + prediction.map
    shared = torch.bincount(pairs.flatten(), minlength=(len(truth) + 1) * width).view(-1, width)
    crowd = torch.zeros_like(truth.labels, dtype=torch.bool) if truth.crowd is None else truth.crowd
    void, areas = shared[0, 1:], shared[:, 1:].sum(0)
    inside = shared[1:, 1:]
    union = shared[1:].sum(1)[:, None] + (areas - void)[None] - inside
    same = truth.labels[:, None] == prediction.labels[None]
    # In whole pixels: an IoU of exactly one half is none above it.
    matched = same & ~crowd[:, None] & (2 * inside > union)
    ignored = void + (inside * (same & crowd[:, None])).sum(0)
    # A segment without a pixel is none.
    alarm = ~matched.any(0) & (2 * ignored <= areas) & (areas > 0)
    missed = ~matched.any(1) & ~crowd
    of_truth, of_prediction = matched.nonzero(as_tuple=True)
    iou = inside[of_truth, of_prediction].double() / union[of_truth, of_prediction]
    of_class = truth.labels[of_truth]
    sums = torch.zeros(classes, dtype=torch.float64, device=iou.device).index_add_(0, of_class, iou)
    return _Counts(
        sums,
        torch.bincount(of_class, minlength=classes),
        torch.bincount(prediction.labels[alarm], minlength=classes),
        torch.bincount(truth.labels[missed], minlength=classes),
    )
