from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.models.panoptic.pixel_classes import pixel_classes, pixel_loss
from nasperc.models.panoptic.segmentation import SEMANTIC_IGNORE


def logits_of(*size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_the_mean_over_pixels_that_count() -> None:
    logits = logits_of(2, 3, 2, 3)
    target = torch.randint(0, 3, (2, 7, 12), generator=torch.Generator().manual_seed(1))
    target[:, :2] = SEMANTIC_IGNORE
    large = F.interpolate(logits, (8, 12), mode="bilinear", align_corners=False)
    terms = [
        -large[n, :, y, x].log_softmax(0)[target[n, y, x]]
        for n in range(2)
        for y in range(7)
        for x in range(12)
        if target[n, y, x] != SEMANTIC_IGNORE
    ]
    assert len(terms) == 2 * 5 * 12
    torch.testing.assert_close(pixel_loss(logits, target, 4), torch.stack(terms).mean())


def test_of_void_alone_the_loss_is_zero_and_its_gradient_known() -> None:
    logits = logits_of(1, 3, 2, 2).requires_grad_()
    loss = pixel_loss(logits, torch.full((1, 8, 8), SEMANTIC_IGNORE), 4)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_parts_of_a_batch_add_up() -> None:
    logits = logits_of(2, 3, 2, 2)
    target = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    target[0, :3] = SEMANTIC_IGNORE
    total = (target != SEMANTIC_IGNORE).sum().float()
    parts = [pixel_loss(logits[k : k + 1], target[k : k + 1], 4, lambda _: total) for k in (0, 1)]
    torch.testing.assert_close(parts[0] + parts[1], pixel_loss(logits, target, 4))


@pytest.mark.parametrize("size", [(24, 40), (9, 15), (48, 80), (17, 23)])
def test_without_padding_it_is_an_interpolation(size: tuple[int, int]) -> None:
    logits = logits_of(4, 6, 10)
    expected = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0].argmax(0)
    assert torch.equal(pixel_classes(logits, 4, (24, 40), size), expected)


def slowly(logits: Tensor, stride: int, image_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Each pixel's centre is found in the resized image, and there among the centres of the cells."""

    def between(pixel: int, pixels: int, side: int, cells: int) -> tuple[int, int, float]:
        place = (pixel + 0.5) / pixels * side / stride - 0.5
        place = min(max(place, 0), cells - 1)
        low = math.floor(place)
        return low, min(low + 1, cells - 1), place - low

    classes = torch.zeros(size, dtype=torch.int64)
    for y in range(size[0]):
        top, bottom, down = between(y, size[0], image_size[0], logits.shape[1])
        for x in range(size[1]):
            left, right, along = between(x, size[1], image_size[1], logits.shape[2])
            above = (1 - along) * logits[:, top, left] + along * logits[:, top, right]
            below = (1 - along) * logits[:, bottom, left] + along * logits[:, bottom, right]
            classes[y, x] = ((1 - down) * above + down * below).argmax()
    return classes


def test_padding_is_no_part_of_the_image() -> None:
    logits = logits_of(3, 4, 6).double()
    found = pixel_classes(logits, 8, (25, 39), (31, 20))
    assert (found == slowly(logits, 8, (25, 39), (31, 20))).float().mean() > 0.998
    # A cell whose neighbour's centre lies beyond the image counts for nothing.
    other = logits.clone()
    other[0, :, 5] = 100
    assert torch.equal(*(pixel_classes(each, 8, (25, 35), (31, 20)) for each in (logits, other)))
    assert not torch.equal(*(pixel_classes(each, 8, (25, 39), (31, 20)) for each in (logits, other)))
