"""The three losses of FCOS: classification, box, centerness (Tian et al. 2019, equation 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.fcos.targets import BACKGROUND, FCOSTargets
from nasperc.models.features import HeadOutput
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.ops.losses import iou_loss, sigmoid_focal_loss


class FCOSLosses(NamedTuple):
    """Scalars, or (N,) one value an image."""

    classification: Tensor
    box: Tensor
    centerness: Tensor

    def total(self) -> Tensor:
        """The sum, all weights 1."""
        return self.classification + self.box + self.centerness


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Maps (N, C, H_l, W_l) of all levels as (N, P, C), in the order of the targets."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], dim=1)


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
        reduce: where ``output`` and ``targets`` are one process's part of a batch, the sum of the normalisers
            (3,) over all of them: the losses, and their gradients, then add up to those of the whole batch.
    """
    terms = _terms(output, targets, preset, strides)
    positives = len(terms.image)
    images = len(targets.labels) if preset.focal_normaliser == "positives_and_images" else 0
    # new_full fills on the device; a tensor made of Python numbers would be copied there, and waited for.
    counts = [terms.weight.new_full((), count) for count in (positives + images, positives)]
    by_focal, by_positives, by_weight = reduce(torch.stack([*counts, terms.weight.sum()]))
    return FCOSLosses(
        classification=terms.focal.sum() / by_focal.clamp(min=1),
        box=terms.weighted_box.sum() / by_weight.clamp(min=1e-6),
        centerness=terms.centerness.sum() / by_positives.clamp(min=1),
    )


def fcos_losses_per_image(
    output: HeadOutput, targets: FCOSTargets, preset: FCOSPreset, strides: Sequence[int]
) -> FCOSLosses:
    """Losses (N,) of each image, normalised by that image's own positives.

    This is what the reward (thesis equation 7.2) averages: an image's losses do not depend on the images
    beside it. Without positives the focal loss is divided by 1 and the others are 0.
    """
    terms = _terms(output, targets, preset, strides)
    images = len(targets.labels)

    def by_image(values: Tensor) -> Tensor:
        return values.new_zeros(images).index_add(0, terms.image, values)

    positives = by_image(torch.ones_like(terms.weight)).clamp(min=1)
    return FCOSLosses(
        classification=terms.focal / positives,
        box=by_image(terms.weighted_box) / by_image(terms.weight).clamp(min=1e-6),
        centerness=by_image(terms.centerness) / positives,
    )


class _Terms(NamedTuple):
    """Unnormalised: ``focal`` (N,); the others for each of the Q positives of the batch."""

    focal: Tensor
    image: Tensor
    weighted_box: Tensor
    weight: Tensor
    centerness: Tensor


def _terms(output: HeadOutput, targets: FCOSTargets, preset: FCOSPreset, strides: Sequence[int]) -> _Terms:
    # The one place where the host waits for a GPU: how many positives there are.
    image, location = (targets.labels >= 0).nonzero(as_tuple=True)
    weight = targets.centerness[image, location]
    # float32 whatever the network computed in: the logarithms and sums below need it.
    predicted = flatten_levels(output.boxes)[image, location].float()
    wanted = targets.distances[image, location]
    if preset.box_unit == "stride":
        unit = _stride_at(output, strides)[location, None]
        predicted, wanted = predicted / unit, wanted / unit
    logits = flatten_levels(output.centerness)[image, location, 0].float()
    return _Terms(
        focal=_focal(flatten_levels(output.class_logits).float(), targets.labels, image, location, preset),
        image=image,
        weighted_box=iou_loss(predicted, wanted, preset.box_loss) * weight,
        weight=weight,
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
