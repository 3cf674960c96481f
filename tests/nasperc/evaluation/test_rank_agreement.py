import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from nasperc.evaluation.rank_agreement import kendall_tau


def test_by_hand() -> None:
    assert kendall_tau([1, 2, 3], [4, 5, 9]) == pytest.approx(1)
    assert kendall_tau([1, 2, 3], [9, 5, 4]) == pytest.approx(-1)
    # Of the three pairs two agree.
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_as_scipy(pairs: list[tuple[int, int]]) -> None:
    one, other = zip(*pairs, strict=True)
    np.testing.assert_allclose(kendall_tau(one, other), kendalltau(one, other).statistic, atol=1e-12)


@pytest.mark.parametrize("other", [[1.0], [1.0, 2.0, 3.0]])
def test_two_measurements_of_the_same_things(other: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        kendall_tau([1.0, 2.0][: len(other)], other)
