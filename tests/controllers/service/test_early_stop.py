import numpy as np
import pytest

from controllers.service.early_stop import early_stop_threshold


def test_is_mean_minus_k_standard_deviations() -> None:
    rewards = [-3.0, -1.0, -2.5, -0.5, -2.0]
    expected = np.mean(rewards) - 1.5 * np.std(rewards, ddof=1)
    assert early_stop_threshold(rewards, 20, 1.5, 20) == pytest.approx(expected)
    # Below the mean whatever the sign of the rewards: a factor on the mean would not be.
    assert expected < np.mean(rewards)


@pytest.mark.parametrize(("completed", "k"), [(19, 1.0), (20, None)])
def test_nothing_is_stopped_too_early_or_unasked(completed: int, k: float | None) -> None:
    assert early_stop_threshold([1.0, 2.0, 3.0], completed, k, 20) is None


def test_needs_two_rewards() -> None:
    assert early_stop_threshold([1.0], 20, 1.0, 20) is None
