"""The three losses of FCOS: classification, box, centerness (Tian et al. 2019, equation 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.models.fcos.positives import Normalisers, Positives, fcos_normalisers, fcos_positives
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.fcos.targets import FCOSTargets
from nasperc.models.features import HeadOutput
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.targets import BACKGROUND, flatten_levels
from nasperc.ops.losses import iou_loss, sigmoid_focal_loss


class FCOSLosses(NamedTuple):
    """Scalars, or (N,) one value an image."""

    classification: Tensor
    box: Tensor
    centerness: Tensor

    def total(self) -> Tensor:
        """The sum, all weights 1."""
        return self.classification + self.box + self.centerness


def fcos_losses(
    output: HeadOutput,
    targets: FCOSTargets,
    preset: FCOSPreset,
    strides: Sequence[int],
    reduce: Reduce = reduce_alone,
) -> FCOSLosses:
    """Losses of a batch, normalised over the batch.

    Focal loss over the positives (plus the images, by the preset), at least 1; box loss weighted by the
    centerness target over the sum of these weights; binary cross-entropy of the centerness over the
    positives. Without positives the last two are 0, with zero gradients.

    Args:
        output: of the head, N images.
        targets: batched, (N, P, ...).
        preset: of the head.
        strides: of the levels, in input pixels.
        reduce: see :func:`fcos_normalisers`.
    """
    positives = fcos_positives(targets)
    normalisers = fcos_normalisers(positives, len(targets.labels), preset, reduce)
    return fcos_losses_at(positives, normalisers, output, targets, preset, strides)


def fcos_losses_at(
    positives: Positives,
    normalisers: Normalisers,
    output: HeadOutput,
    targets: FCOSTargets,
    preset: FCOSPreset,
    strides: Sequence[int],
) -> FCOSLosses:
    """:func:`fcos_losses` for who has a further loss at the same positives, over the same sums.

    Args:
        positives: of ``targets``.
        normalisers: of the whole batch.
        output, targets, preset, strides: see there.
    """
    terms = _terms(positives, output, targets, preset, strides)
    return FCOSLosses(
        classification=terms.focal.sum() / normalisers.focal,
        box=terms.weighted_box.sum() / normalisers.weight,
        centerness=terms.centerness.sum() / normalisers.positives,
    )


def fcos_losses_per_image(
    output: HeadOutput, targets: FCOSTargets, preset: FCOSPreset, strides: Sequence[int]
) -> FCOSLosses:
    """Losses (N,) of each image, normalised by that image's own positives.

    This is what the reward (thesis equation 7.2) averages: an image's losses do not depend on the images
    beside it. Without positives the focal loss is divided by 1 and the others are 0.
    """
    positives = fcos_positives(targets)
    terms = _terms(positives, output, targets, preset, strides)
    images = len(targets.labels)

    def by_image(values: Tensor) -> Tensor:
        return values.new_zeros(images).index_add(0, positives.image, values)

    count = by_image(torch.ones_like(positives.weight)).clamp(min=1)
    return FCOSLosses(
        classification=terms.focal / count,
        box=by_image(terms.weighted_box) / by_image(positives.weight).clamp(min=1e-6),
        centerness=by_image(terms.centerness) / count,
    )


class _Terms(NamedTuple):
    """Unnormalised: ``focal`` (N,); the others for each of the Q positives of the batch."""

    focal: Tensor
    weighted_box: Tensor
    centerness: Tensor


def _terms(
    positives: Positives,
    output: HeadOutput,
    targets: FCOSTargets,
    preset: FCOSPreset,
    strides: Sequence[int],
) -> _Terms:
    image, location, _, weight = positives
    # float32 whatever the network computed in: the logarithms and sums below need it.
    predicted = flatten_levels(output.boxes)[image, location].float()
    wanted = targets.distances[image, location]
    if preset.box_unit == "stride":
        unit = _stride_at(output, strides)[location, None]
        predicted, wanted = predicted / unit, wanted / unit
    logits = flatten_levels(output.centerness)[image, location, 0].float()
    return _Terms(
        focal=_focal(flatten_levels(output.class_logits).float(), targets.labels, image, location, preset),
        weighted_box=iou_loss(predicted, wanted, preset.box_loss) * weight,
        centerness=F.binary_cross_entropy_with_logits(logits, weight, reduction="none"),
    )


def _focal(logits: Tensor, labels: Tensor, image: Tensor, location: Tensor, preset: FCOSPreset) -> Tensor:
    """Focal loss (N,) summed over the locations (N, P) that are not ignored and over the K classes.

    ``image`` and ``location`` (Q,): where ``labels`` (N, P) has positives.
    """
    negative, positive = logits.new_zeros(()), logits.new_ones(())
    # Nearly every element is a negative: all are taken as such, then the few positives are put right. That
    # takes 0.6 to 0.8 of the time of one-hot targets.
    losses = sigmoid_focal_loss(logits, negative, preset.focal_alpha, preset.focal_gamma)
    total = (losses.sum(dim=-1) * (labels >= BACKGROUND)).sum(dim=-1)
    of_positives = logits[image, location, labels[image, location]]
    correction = sigmoid_focal_loss(of_positives, positive, preset.focal_alpha, preset.focal_gamma)
    correction = correction - losses[image, location, labels[image, location]]
    return total.index_add(0, image, correction)


def _stride_at(output: HeadOutput, strides: Sequence[int]) -> Tensor:
    """Stride (P,) of every location."""
    counts = torch.tensor([level.shape[-2] * level.shape[-1] for level in output.boxes])
    return torch.tensor(strides, dtype=torch.float32).repeat_interleave(counts).to(output.boxes[0].device)
