"""Cross entropy of single frames and of sequences, for the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.data.batch import Batch, semantic_targets
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.models.segmenter import SegmenterOutput
from nasperc.models.video_segmenter import VideoSegmenter, unroll
from nasperc.ops.resize import resize_to

LossSize = Literal["logits", "labels"]


def segmentation_loss(logits: Tensor, labels: Tensor, size: LossSize = "logits") -> Tensor:
    """Mean cross entropy over the pixels that are not 255; 0, with a gradient of 0, where all are.

    Args:
        logits: (N, K, h, w).
        labels: (N, H, W) int64.
        size: at that of the logits, where the nearest label counts, or at that of the labels, to which the logits
            are interpolated.
    """
    if size == "labels":
        logits = resize_to(logits.float(), (labels.shape[-2], labels.shape[-1]))
    else:
        labels = reduce_labels(labels, (logits.shape[-2], logits.shape[-1]))
    total = F.cross_entropy(logits.float(), labels, ignore_index=SEMANTIC_IGNORE, reduction="sum")
    return total / (labels != SEMANTIC_IGNORE).sum().clamp(min=1)


def reduce_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) int64 labels at ``size`` (h, w): those nearest to the centres of its pixels."""
    nearest = F.interpolate(labels[:, None].to(torch.uint8), size, mode="nearest-exact")
    return nearest[:, 0].long()


def static_losses(
    model: nn.Module, batch: Batch, auxiliary_weight: float, size: LossSize
) -> dict[str, Tensor]:
    """``segmentation``, and ``auxiliary``: the weighted sum over the auxiliary classifiers (thesis A.1).

    Auxiliary logits are interpolated to the size of the others first, as in the authors' release.
    """
    device = next(model.parameters()).device
    output: SegmenterOutput = model(batch.images.to(device))
    labels = semantic_targets(batch).to(device)
    losses = {"segmentation": segmentation_loss(output.logits, labels, size)}
    if output.auxiliary:
        shape = (output.logits.shape[-2], output.logits.shape[-1])
        terms = [segmentation_loss(resize_to(each, shape), labels, size) for each in output.auxiliary]
        losses["auxiliary"] = auxiliary_weight * torch.stack(terms).sum()
    return losses


def sequence_losses(
    model: nn.Module, batch: Batch, length: int, size: LossSize, *, train_static: bool
) -> dict[str, Tensor]:
    """``segmentation``: the sum over all frames after the first of each one's cross entropy (thesis 6.4).

    Args:
        model: a :class:`VideoSegmenter`.
        batch: sequences of ``length`` frames, one frame after another.
        length: of a sequence.
        size: see :func:`segmentation_loss`.
        train_static: whether gradients reach the static network.
    """
    assert isinstance(model, VideoSegmenter)
    device = next(model.parameters()).device
    with torch.set_grad_enabled(train_static):
        _, state, frames = model.observe(batch.images.to(device).chunk(length))
    logits = unroll(model.cell, state, frames)
    return {"segmentation": _later_frames(logits, batch, length, size)}


def later_frame_losses(model: nn.Module, batch: Batch, length: int, size: LossSize) -> dict[str, Tensor]:
    """As :func:`sequence_losses`, of a per-frame network: each of those frames by itself."""
    device = next(model.parameters()).device
    first = len(batch.images) // length
    output: SegmenterOutput = model(batch.images[first:].to(device))
    return {"segmentation": _later_frames(output.logits.chunk(length - 1), batch, length, size)}


def _later_frames(logits: Sequence[Tensor], batch: Batch, length: int, size: LossSize) -> Tensor:
    labels = semantic_targets(batch).to(logits[0].device).chunk(length)[1:]
    terms = [segmentation_loss(one, other, size) for one, other in zip(logits, labels, strict=True)]
    return torch.stack(terms).sum()
