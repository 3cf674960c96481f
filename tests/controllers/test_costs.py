import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controllers.costs import CostLimits, CostTarget, objective


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2.5e9", 2.5e9),
        ("2.5G", 2.5e9),
        ("300M", 3e8),
        ("12k", 1.2e4),
        ("1T", 1e12),
        (" 7 ", 7.0),
        (20, 20.0),
    ],
)
def test_amounts(text: object, amount: float) -> None:
    assert CostLimits.model_validate({"flops": text}).amounts == {"flops": pytest.approx(amount, rel=1e-15)}


@pytest.mark.parametrize("text", ["", "G", "2.5g", "1.2.3", "-1", "0", -3, "nan", math.inf, "1e999", [1]])
def test_what_is_no_positive_amount_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        CostLimits.model_validate({"flops": text})


def test_every_exceeded_limit_is_named() -> None:
    limits = CostLimits(flops=1e9, params=2e6, latency_ms=20)
    assert limits.exceeded({"flops": 1e9, "params": 2e6, "latency_ms": 20.0}) is None
    assert limits.exceeded({"flops": 2.5e9, "params": 1e6}) == "flops 2.5e+09 exceed the limit of 1e+09"
    reason = limits.exceeded({"flops": 1.0, "params": 3e6, "latency_ms": 21.0})
    assert reason == "params 3e+06 exceed the limit of 2e+06, latency_ms 21 exceed the limit of 20"
    assert CostLimits().exceeded({"flops": 1e99}) is None


def test_penalty_by_hand() -> None:
    target = CostTarget.model_validate({"weight": 0.2, "target": "2G"})
    assert target.penalty({"flops": 2e9}) == 0
    assert target.penalty({"flops": 0}) == 0
    assert target.penalty({"flops": 2e9 * math.e**3}) == pytest.approx(0.6, rel=1e-12)
    with pytest.raises(KeyError):
        target.penalty({"params": 1.0})


@pytest.mark.parametrize(
    "values",
    [
        {"weight": 0.2},
        {"target": 1e9},
        {"cost": "flops"},
        {"weight": -0.2, "target": 1e9},
        {"weight": 0, "target": 1e9},
        {"weight": math.nan, "target": 1e9},
        {"weight": 0.2, "target": -1e9},
        {"weight": 0.2, "target": 1e9, "cost": "watts"},
    ],
)
def test_half_a_target_and_negative_values_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CostTarget.model_validate(values)


rewards = st.floats(-1e3, 1e3)
amounts = st.floats(1.0, 1e15)


@given(rewards, amounts, amounts, st.floats(1e-3, 10), amounts)
def test_of_equal_rewards_the_cheaper_one_is_never_worse(
    reward: float, one: float, other: float, weight: float, target: float
) -> None:
    """Also where rewards are negative: that is why nothing is multiplied."""
    terms = CostTarget(weight=weight, target=target)
    cheap, dear = (
        objective({"event": "completion", "reward": reward, "penalty": terms.penalty({"flops": flops})})
        for flops in sorted((one, other))
    )
    assert dear <= cheap <= reward


def test_the_objective_of_an_event() -> None:
    assert objective({"event": "completion", "reward": -1.0, "halfway": -2.0}) == -1.0
    assert objective({"event": "completion", "reward": -1.0, "halfway": -2.0, "penalty": 0.5}) == -1.5
    assert objective({"event": "stop", "halfway": -2.0, "penalty": 0.5}) == -2.5
