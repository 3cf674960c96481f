import math

import pytest
import torch
from torch import Tensor

from nasperc.models.masks.mask_loss import mask_loss, most_central


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(5, 4, 4, generator=generator)
    return logits, torch.rand(5, 4, 4, generator=generator) > 0.6, torch.rand(5, generator=generator)


def test_the_loss_read_slowly() -> None:
    logits, masks, weights = batch()
    total = 0.0
    for plane, mask, weight in zip(logits.tolist(), masks.tolist(), weights.tolist(), strict=True):
        pixels = [
            -math.log(1 / (1 + math.exp(-value if inside else value)))
            for row, wanted in zip(plane, mask, strict=True)
            for value, inside in zip(row, wanted, strict=True)
        ]
        total += weight * sum(pixels) / 16
    assert mask_loss(logits, masks, weights, weights.sum()).item() == pytest.approx(
        total / weights.sum().item(), rel=1e-5
    )


def test_the_losses_of_parts_of_a_batch_add_up_to_that_of_the_whole() -> None:
    logits, masks, weights = batch()
    parts = [
        mask_loss(logits[part], masks[part], weights[part], weights.sum())
        for part in (slice(0, 2), slice(2, 5), slice(5, 5))
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), mask_loss(logits, masks, weights, weights.sum()))


def test_no_positive_is_a_loss_of_zero_with_gradients_of_zero() -> None:
    logits, masks, weights = (field[:0] for field in batch())
    logits = logits.clone().requires_grad_()
    loss = mask_loss(logits, masks, weights, torch.tensor(1e-6))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None


def test_half_precision_is_summed_in_single() -> None:
    logits, masks, weights = batch()
    half = mask_loss(logits.bfloat16(), masks, weights, weights.sum())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, mask_loss(logits.bfloat16().float(), masks, weights, weights.sum()))


def test_the_most_central_locations_of_each_image() -> None:
    image = torch.tensor([0, 0, 0, 2, 2, 2, 2, 3])
    weights = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.7, 0.2, 0.7, 0.0])
    assert most_central(image, weights, 2).tolist() == [1, 2, 3, 4, 7]
    assert most_central(image, weights, 1).tolist() == [1, 3, 7]
    assert most_central(image, weights, 4).tolist() == list(range(8))
    assert most_central(image[:0], weights[:0], 4).tolist() == []
