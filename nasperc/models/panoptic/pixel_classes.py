"""Logits of a semantic map: against what is annotated, and as classes of the pixels of an image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.models.panoptic.segmentation import SEMANTIC_IGNORE
from nasperc.models.reduction import Reduce, reduce_alone


def pixel_loss(logits: Tensor, target: Tensor, stride: int, reduce: Reduce = reduce_alone) -> Tensor:
    """Cross-entropy at the size of the images, mean over the pixels of the batch that are not ignored.

    Args:
        logits: (N, classes, H, W), brought to the images' size by a bilinear interpolation.
        target: (N, *size) int64 of classes, or ``SEMANTIC_IGNORE``; the logits cover it.
        stride: of the logits.
        reduce: of the processes that share a batch, for the number of pixels.
    """
    height, width = target.shape[-2:]
    wide = logits if logits.dtype == torch.float64 else logits.float()
    # A plane for each class: of maps that are channels-last the loss takes 1.7 times as long.
    large = F.interpolate(wide.contiguous(), scale_factor=stride, mode="bilinear", align_corners=False)
    total = F.cross_entropy(
        large[..., :height, :width], target, ignore_index=SEMANTIC_IGNORE, reduction="sum"
    )
    return total / reduce((target != SEMANTIC_IGNORE).sum().float()).clamp(min=1)


def pixel_classes(logits: Tensor, stride: int, image_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The class of each pixel of an image: (H, W) int64.

    Logits are interpolated once, to the pixels of the original image; detectron2 does so twice, by way of the resized
    one, which takes twice as long.

    Args:
        logits: (classes, h, w) of the resized and padded image.
        stride: of the logits.
        image_size: of the resized image in pixels, without padding.
        size: (H, W) of the original image.
    """
    rows, columns = (
        (torch.arange(pixels, device=logits.device) + 0.5) * (2 * side / (pixels * stride * cells)) - 1
        for pixels, side, cells in zip(size, image_size, logits.shape[-2:], strict=True)
    )
    grid = torch.stack((columns.expand(size), rows[:, None].expand(size)), dim=-1)
    return F.grid_sample(logits[None].float(), grid[None], padding_mode="border", align_corners=False)[
        0
    ].argmax(0)
