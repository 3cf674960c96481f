import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasperc.report.reward_curve import moving_average, plot_reward_curves, reward_curves


# Drawing inputs is slow on a busy machine; that says nothing about the function.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=80), st.integers(1, 40))
def test_moving_average_against_slices(values, window):
    expected = [np.mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(moving_average(values, window), expected, atol=1e-9)


def test_curves_by_stage_leave_everything_but_completions_out(tmp_path):
    events = [
        {"event": "completion", "stage": "fpn", "reward": -2.0, "seconds": 10.0},
        {"event": "failure", "stage": "fpn", "reward": None, "seconds": 1.0},
        {"event": "completion", "stage": "fpn", "reward": -1.0, "seconds": 20.0},
        {"event": "completion", "stage": "head", "reward": -3.0, "seconds": 5.0},
    ]
    fpn, head = reward_curves(events)
    assert (fpn.stage, fpn.rewards, fpn.best, fpn.mean_seconds) == ("fpn", (-2.0, -1.0), -1.0, 15.0)
    assert (head.first_mean, head.last_mean) == (-3.0, -3.0)
    plot_reward_curves({"ppo": [fpn, head]}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[1:4] == b"PNG"


def test_rewards_are_less_what_their_cost_takes_off():
    events = [{"event": "completion", "stage": "fpn", "reward": -2.0, "penalty": 0.5, "seconds": 1.0}]
    assert reward_curves(events)[0].rewards == (-2.5,)


def test_a_metric_instead_of_the_reward():
    events = [
        {"event": "completion", "stage": "fpn", "reward": -2.0, "seconds": 1.0, "metrics": {"ap": 0.25}},
        {"event": "completion", "stage": "fpn", "reward": -1.0, "seconds": 1.0, "metrics": {"ap": 0.5}},
    ]
    (curve,) = reward_curves(events, "ap")
    assert curve.rewards == (0.25, 0.5)
    with pytest.raises(KeyError):
        reward_curves(events, "pq")
