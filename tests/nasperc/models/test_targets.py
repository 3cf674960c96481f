from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from nasperc.models.targets import flatten_levels, stack_targets

SIZES = ((2, 3), (1, 2))


class Some(NamedTuple):
    labels: Tensor
    deltas: Tensor
    owner: Tensor | None = None


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_flattening_goes_level_by_level_and_row_by_row(memory_format: torch.memory_format) -> None:
    levels = [torch.randn(2, 5, *size).contiguous(memory_format=memory_format) for size in SIZES]
    flat = flatten_levels(levels)
    places = [
        (level, row, column)
        for level, (height, width) in enumerate(SIZES)
        for row in range(height)
        for column in range(width)
    ]
    assert flat.shape == (2, len(places), 5)
    for index, (level, row, column) in enumerate(places):
        assert torch.equal(flat[:, index], levels[level][:, :, row, column])


def test_stacking() -> None:
    one, two = (Some(torch.randint(0, 9, (3,)), torch.randn(3, 4), torch.randint(0, 9, (3,))) for _ in "ab")
    batch = stack_targets([one, two])
    assert isinstance(batch, Some)
    assert torch.equal(batch.labels[0], one.labels)
    assert torch.equal(batch.deltas[1], two.deltas)
    assert batch.owner is not None
    assert torch.equal(batch.owner, torch.stack((one.owner, two.owner)))


def test_what_targets_do_not_know_their_batch_does_not_know_either() -> None:
    batch = stack_targets([Some(torch.zeros(3), torch.zeros(3, 4))] * 2)
    assert batch.owner is None
    assert batch.deltas.shape == (2, 3, 4)
