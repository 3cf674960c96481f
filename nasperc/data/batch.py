"""Samples to a batch of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import SEMANTIC_IGNORE, Sample
from nasperc.models.features import DIVISOR, padded_size


@dataclass(frozen=True)
class Batch:
    """``images``: (N, 3, H, W) float32, channels-last, normalised, then zero-padded at bottom and right.

    ``sizes``: (h, w) of each image inside the padding. ``samples``: as they came in; padding moves no
    coordinate.
    """

    images: Tensor
    sizes: list[tuple[int, int]]
    samples: list[Sample]


def collate(
    samples: Sequence[Sample],
    normalisation: Normalisation,
    divisor: int = DIVISOR,
    size: tuple[int, int] | None = None,
) -> Batch:
    """Normalise, then pad with zeros (the mean colour) to the largest image, rounded up to ``divisor``.

    Args:
        samples: one or more.
        normalisation: the backbone's.
        divisor: H and W become multiples of it; the network says of which (a detector by its ``divisor``).
        size: (H, W) of the batch instead of the largest image's.

    Raises:
        ValueError: no samples, or an image larger than ``size``.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    sizes = [(int(s.image.shape[-2]), int(s.image.shape[-1])) for s in samples]
    height, width = (max(axis) for axis in zip(*sizes, strict=True))
    if size is None:
        size = padded_size((height, width), divisor)
    elif height > size[0] or width > size[1]:
        raise ValueError(f"images of up to {(height, width)} do not fit into a batch of {size}")
    images = torch.zeros((len(samples), 3, *size)).contiguous(memory_format=torch.channels_last)
    for image, sample, (h, w) in zip(images, samples, sizes, strict=True):
        image[:, :h, :w] = normalisation.apply(sample.image)
    return Batch(images, sizes, list(samples))


def pad(batch: Batch, size: tuple[int, int]) -> Batch:
    """The batch as :func:`collate` makes it for ``size`` (H, W), at least that of its images."""
    (height, width), (wanted_height, wanted_width) = batch.images.shape[-2:], size
    if (height, width) == size:
        return batch
    images = F.pad(batch.images, (0, wanted_width - width, 0, wanted_height - height))
    return replace(batch, images=images.contiguous(memory_format=torch.channels_last))


def semantic_targets(batch: Batch) -> Tensor:
    """(N, H, W) int64 of the samples' semantic maps, 255 (ignored) in the padding.

    Raises:
        ValueError: a sample has no semantic map.
    """
    targets = torch.full((len(batch.samples), *batch.images.shape[-2:]), SEMANTIC_IGNORE)
    for target, sample, (h, w) in zip(targets, batch.samples, batch.sizes, strict=True):
        if sample.semantic is None:
            raise ValueError(f"{sample.meta.file} has no semantic map")
        target[:h, :w] = sample.semantic
    return targets
