from __future__ import annotations

import torch
from torch import nn

from nasperc.evaluation.activations import activation_bytes
from nasperc.models.normalisation import FrozenBatchNorm2d


def test_by_hand() -> None:
    # Kept: the image (3), the convolution's output for BatchNorm (8), the ReLU's output in BatchNorm's place (8), for
    # the second convolution too; BatchNorm's batch statistics are 2 x 8 numbers.
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 1),
    )
    pixels = 64 * 32
    kept = activation_bytes(model, (64, 32))
    assert kept - 4 * pixels * (3 + 8 + 8) in (0, 4 * 2 * 8)


def test_a_relu_that_is_not_in_place_keeps_its_own_output() -> None:
    def bytes_of(*, inplace: bool) -> int:
        layers = (nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=inplace), nn.Conv2d(8, 8, 1))
        return activation_bytes(nn.Sequential(*layers), (32, 32))

    assert bytes_of(inplace=True) == bytes_of(inplace=False)


def test_what_is_frozen_from_the_start_keeps_nothing() -> None:
    frozen = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), FrozenBatchNorm2d(64), nn.ReLU())
    frozen.requires_grad_(False)
    assert activation_bytes(frozen, (32, 32)) == 0
    head = nn.Conv2d(64, 1, 1)
    assert activation_bytes(nn.Sequential(frozen, head), (32, 32)) == 4 * 32 * 32 * 64


def test_memory_grows_with_the_image_and_the_model_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()
    before = [parameter.clone() for parameter in model.parameters()]
    assert activation_bytes(model, (64, 64)) == 4 * activation_bytes(model, (32, 32))
    assert not model.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
