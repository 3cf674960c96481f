from __future__ import annotations

import pytest
import torch

from nasperc.models.smalmask.recipe import BoxSupervision
from nasperc.models.smalmask.supervision import by_ground_truth


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("predicted", [False, False, False, False]),
        ("ground_truth", [True, True, True, True]),
        # 18,000 of 90,000 iterations.
        ("fix", [True, True, False, False]),
    ],
)
def test_the_fixed_schedules(schedule: BoxSupervision, wanted: list[bool]) -> None:
    iterations = (0, 17_999, 18_000, 89_999)
    assert [by_ground_truth(schedule, each / 90_000) for each in iterations] == wanted


def test_a_random_one_has_the_probability_that_is_left() -> None:
    """p = 1 - i / iterations, in tenths of a training of 20,000 iterations."""
    drawn = []
    for step in range(20_000):
        torch.manual_seed(7 * 1_000_003 + step)
        drawn.append(by_ground_truth("random", step / 20_000))
    tenths = torch.tensor(drawn, dtype=torch.float64).view(10, 2000).mean(1)
    # Four standard deviations of 2,000 draws.
    torch.testing.assert_close(tenths, 0.95 - torch.arange(10) / 10, atol=0.045, rtol=0, check_dtype=False)
    assert by_ground_truth("random", 0.0)
    assert not by_ground_truth("random", 1.0)


def test_a_draw_is_of_the_seed_alone_and_takes_nothing_from_other_layers() -> None:
    torch.manual_seed(3)
    first = by_ground_truth("random", 0.5)
    before = torch.rand(2)
    assert by_ground_truth("random", 0.5) == first
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), before)
