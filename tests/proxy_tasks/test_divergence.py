from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxy_tasks.divergence import DivergedLossError, DivergenceGuard

LIMITS = {"box": 100.0, "gradient norm": 1e30}
NUMBERS = st.floats(width=32)


def guard_of(values: list[tuple[float, float]]) -> DivergenceGuard:
    guard = DivergenceGuard(LIMITS, torch.device("cpu"))
    for step, pair in enumerate(values, start=1):
        guard.note(step, *(torch.tensor(value) for value in pair))
    return guard


def test_the_first_bad_step_is_named_however_late_it_is_read() -> None:
    guard = guard_of([(1.0, 2.0), (99.0, 1e29), (math.nan, 3.0), (1.0, math.inf)])
    with pytest.raises(DivergedLossError, match=r"^diverged at step 3: box nan$"):
        guard.check()


def test_all_that_is_bad_there_is_named_with_its_value() -> None:
    with pytest.raises(DivergedLossError, match=r"at step 1: box -101, gradient norm inf$"):
        guard_of([(-101.0, math.inf), (math.nan, math.nan)]).check()


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_it_raises_where_the_obvious_loop_does(values: list[tuple[float, float]]) -> None:
    bad = [
        step
        for step, pair in enumerate(values, start=1)
        if any(
            math.isnan(value) or abs(value) > limit
            for value, limit in zip(pair, torch.tensor(list(LIMITS.values())).tolist(), strict=True)
        )
    ]
    guard = guard_of(values)
    if not bad:
        guard.check()
        return
    with pytest.raises(DivergedLossError, match=f"at step {bad[0]}:"):
        guard.check()
