from __future__ import annotations

import math

import torch
from torch import Tensor

from nasperc.models.sample_levels import cells_of, sample_levels

SIZES = ((5, 7), (3, 4), (1, 2))


def maps(**keys: bool) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, *size, dtype=torch.float64, **keys) for size in SIZES]


def slowly(levels: list[Tensor], image: int, level: int, y: float, x: float) -> Tensor:
    """One point, from its four cells."""
    found = torch.zeros(3, dtype=torch.float64)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < SIZES[level][0] and 0 <= column < SIZES[level][1]:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                found += weight * levels[level][image, :, row, column].detach()
    return found


def points() -> tuple[Tensor, ...]:
    """Of 40 objects with three points each, across every border and far outside."""
    torch.manual_seed(1)
    image, level = torch.randint(2, (40,)), torch.randint(3, (40,))
    y, x = (torch.randn(40, 3, dtype=torch.float64) * 3 + 1 for _ in range(2))
    y[0], x[1] = 1e12, -1e12
    y[2], x[2] = 2.0, 1.0
    return image, level, y, x


def test_each_point_is_read_from_its_map() -> None:
    levels, (image, level, y, x) = maps(), points()
    found = sample_levels(levels, image, level, y, x)
    for q in range(40):
        for t in range(3):
            wanted = slowly(levels, int(image[q]), int(level[q]), float(y[q, t]), float(x[q, t]))
            torch.testing.assert_close(found[q, t], wanted)


def test_gradients_of_maps_points_and_mask() -> None:
    image, level, y, x = (each[3:9] for each in points())
    mask = torch.rand(6, 3, dtype=torch.float64, requires_grad=True)
    inputs = (*maps(requires_grad=True), y.requires_grad_(), x.requires_grad_(), mask)

    def read(*tensors: Tensor) -> Tensor:
        return sample_levels(tensors[:3], image, level, *tensors[3:])

    assert torch.autograd.gradcheck(read, inputs)


def test_no_object_reads_nothing_and_gives_gradients_of_zero() -> None:
    levels, none = maps(requires_grad=True), torch.zeros(0, dtype=torch.int64)
    found = sample_levels(levels, none, none, torch.zeros(0, 3), torch.zeros(0, 3))
    assert found.shape == (0, 3, 3)
    for gradient in torch.autograd.grad(found.sum(), levels):
        assert not gradient.any()


def test_bfloat16_maps_are_sampled_at_exact_points() -> None:
    """Eight bits would move column 95 by up to half a cell."""
    row = torch.arange(96.0).expand(1, 1, 2, 96)
    zero = torch.zeros(1, dtype=torch.int64)
    found = sample_levels([row.bfloat16()], zero, zero, torch.zeros(1, 1), torch.full((1, 1), 94.75))
    assert found.dtype == torch.bfloat16
    assert found.item() == torch.tensor(94.75).bfloat16()


def test_locations_are_counted_level_by_level_and_row_by_row() -> None:
    wanted = [
        (level, row, column)
        for level, (height, width) in enumerate(SIZES)
        for row in range(height)
        for column in range(width)
    ]
    found = cells_of(torch.arange(len(wanted)), SIZES)
    assert list(zip(*(each.tolist() for each in found), strict=True)) == wanted
