import pytest
from pydantic import ValidationError

from controllers.service.plan import SearchPlan
from nasperc.errors import InputError
from search_spaces.base import Stage


def stages(*shares: float) -> list[Stage]:
    return [Stage(f"s{index}", (), {}, {}, share) for index, share in enumerate(shares)]


@pytest.mark.parametrize(
    ("candidates", "shares", "bounds"),
    [
        (200, (0.75, 0.25), [150, 200]),
        (200, (3.0, 1.0), [150, 200]),
        (16, (0.75, 0.25), [12, 16]),
        (10, (1.0,), [10]),
        (2, (0.75, 0.25), [1, 2]),
        (2, (0.05, 0.95), [1, 2]),
        (3, (0.98, 0.01, 0.01), [1, 2, 3]),
        (7, (1.0, 1.0, 1.0), [2, 5, 7]),
    ],
)
def test_candidates_are_shared_out(candidates: int, shares: tuple[float, ...], bounds: list[int]) -> None:
    assert SearchPlan(candidates=candidates).candidate_bounds(stages(*shares)) == bounds


def test_time_is_shared_out() -> None:
    plan = SearchPlan(seconds=100)
    assert plan.second_bounds(stages(0.75, 0.25)) == [75, 100]
    assert plan.candidate_bounds(stages(0.75, 0.25)) == [None, None]


def test_a_stage_without_a_candidate_is_refused() -> None:
    with pytest.raises(InputError, match="each of the 2 stages a candidate, but got 1"):
        SearchPlan(candidates=1).candidate_bounds(stages(0.75, 0.25))


@pytest.mark.parametrize("plan", [{}, {"candidates": 0}, {"seconds": 0}, {"candidates": 3, "slotz": 2}])
def test_bad_plans_are_refused(plan: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SearchPlan(**plan)  # type: ignore[arg-type]
