"""The positive locations of a batch, and what summed losses are divided by: found once, for every loss that needs them.

A mask loss has one entry a positive location, which is weighted and divided as the box loss is (AdelaiDet's BlendMask).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.fcos.targets import FCOSTargets
from nasperc.models.reduction import Reduce, reduce_alone


class Positives(NamedTuple):
    """The Q positive locations of a batch, image by image.

    ``image`` (Q,) int64; ``location`` (Q,) int64, among the P of its image. ``owner`` (Q,) int64: index into the
    image's annotations; None: the targets do not know it. ``weight`` (Q,) float32: the centerness target.
    """

    image: Tensor
    location: Tensor
    owner: Tensor | None
    weight: Tensor


class Normalisers(NamedTuple):
    """Scalars of the whole batch, however many processes share it.

    ``focal``: for the focal loss, by the preset, at least 1. ``positives``: their number, at least 1. ``weight``: sum
    of their weights, at least 1e-6. ``images``: their number.
    """

    focal: Tensor
    positives: Tensor
    weight: Tensor
    images: Tensor


def fcos_positives(targets: FCOSTargets) -> Positives:
    """Where ``targets`` (N, P, ...) have an object."""
    # The one place where the host waits for a GPU: how many positives there are.
    image, location = (targets.labels >= 0).nonzero(as_tuple=True)
    owner = None if targets.owner is None else targets.owner[image, location]
    return Positives(image, location, owner, targets.centerness[image, location])


def fcos_normalisers(
    positives: Positives, images: int, preset: FCOSPreset, reduce: Reduce = reduce_alone
) -> Normalisers:
    """What every loss of the batch is divided by, in one reduction.

    Args:
        positives: of ``images`` images.
        images: their number.
        preset: of the head.
        reduce: where these are one process's part of a batch, the sum of a tensor over all of them: losses, and their
            gradients, then add up to those of the whole batch.
    """
    weight = positives.weight
    # new_full fills on the device; a tensor made of Python numbers would be copied there, and waited for.
    counts = [weight.new_full((), count) for count in (images, len(weight))]
    all_images, all_positives, all_weight = reduce(torch.stack([*counts, weight.sum()]))
    focal = all_positives + all_images if preset.focal_normaliser == "positives_and_images" else all_positives
    return Normalisers(
        focal=focal.clamp(min=1),
        positives=all_positives.clamp(min=1),
        weight=all_weight.clamp(min=1e-6),
        images=all_images,
    )
