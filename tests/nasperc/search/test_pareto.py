from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.service.journal import Event
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.pareto import ParetoFronts, on_front, read_pareto

MakeEvent = Callable[..., Event]

# Few values, so that many are equal.
POINTS = st.lists(st.tuples(st.integers(-3, 3).map(float), st.integers(1, 6).map(float)), max_size=25)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """At least as good in both, better in one."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@given(POINTS)
def test_the_front_is_what_nobody_beats(points: list[tuple[float, float]]) -> None:
    slow = {index for index, each in enumerate(points) if not any(beats(other, each) for other in points)}
    front = on_front(points)
    assert set(front) == slow
    assert front == sorted(front, key=lambda index: (-points[index][0], index))


def test_by_hand() -> None:
    # 0 is beaten by 1 (same reward, cheaper), 3 by 2; 2 and 4 are equal.
    assert on_front([(5.0, 9.0), (5.0, 8.0), (4.0, 3.0), (4.0, 5.0), (4.0, 3.0), (1.0, 1.0)]) == [1, 2, 4, 5]
    assert on_front([]) == []


@given(POINTS)
def test_collected_one_by_one_it_is_the_same(points: list[tuple[float, float]]) -> None:
    fronts = ParetoFronts()
    for id, (reward, flops) in enumerate(points):
        before = fronts.fronts().get(("body", "flops"), [])
        event = {"event": "completion", "stage": "body", "id": id, "reward": reward, "cost": {"flops": flops}}
        assert fronts.apply(event) == (fronts.fronts()["body", "flops"] != before)
    assert [event["id"] for event in fronts.fronts().get(("body", "flops"), [])] == on_front(points)


@pytest.fixture
def path(tmp_path: Path, make_event: MakeEvent, toy_recipe: Callable[..., Recipe]) -> Path:
    fronts = ParetoFronts()
    costs: list[tuple[float, dict[str, float | None]]] = [
        (0.5, {"flops": 3e6, "latency_ms": 4.0}),
        (0.4, {"flops": 2e6, "latency_ms": None}),
        (0.3, {"flops": 2e6, "latency_ms": 3.0}),
        (0.9, {"flops": 9e6}),
    ]
    for id, (reward, cost) in enumerate(costs):
        fronts.apply(make_event("completion", id=id, reward=reward, cost=cost, penalty=10.0 * id))
    fronts.apply(make_event("stop", id=2, cost={"flops": 1.0}))
    head = {"body": (0, 0, 0, 0, 3), "head": (0, 1, 1)}
    fronts.apply(make_event("completion", id=5, stage="head", parts=head, reward=0.1, cost={"flops": 1e6}))
    assert fronts.write(tmp_path / "pareto.json", toy_recipe())
    return tmp_path / "pareto.json"


def test_written_and_read_a_front_for_each_stage_and_cost(path: Path) -> None:
    read = {(front.stage, front.cost): [entry.id for entry in front.entries] for front in read_pareto(path)}
    assert read == {("body", "flops"): [3, 0, 1], ("body", "latency_ms"): [0, 2], ("head", "flops"): [5]}
    front = read_pareto(path)[0]
    assert [entry.rank for entry in front.entries] == [1, 2, 3]
    # What was measured; what the cost takes off elsewhere would count it twice.
    assert [(entry.reward, entry.penalty) for entry in front.entries] == [
        (0.9, 30.0),
        (0.5, 0.0),
        (0.4, 10.0),
    ]


def test_without_costs_there_is_no_file(
    tmp_path: Path, make_event: MakeEvent, toy_recipe: Callable[..., Recipe]
) -> None:
    fronts = ParetoFronts()
    assert not fronts.apply(make_event("completion", id=0, reward=0.5, cost={}))
    assert not fronts.write(tmp_path / "pareto.json", toy_recipe())
    assert not (tmp_path / "pareto.json").exists()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format",), "nasperc-pareto/2", "not valid at format"),
        (("extra",), 1, "not valid at extra"),
        (("fronts", 0, "cost"), "watts", r"not valid at fronts.0.cost"),
        (("fronts", 0, "entries"), [], r"not valid at fronts.0.entries"),
        (("fronts", 0, "entries", 0, "status"), "stopped", "status"),
        (("fronts", 0, "entries", 0, "hash"), "0" * 64, "hash of an architecture"),
        (("fronts", 0, "entries", 0, "rank"), 2, "must rank"),
        (("fronts", 0, "entries", 0, "reward"), 0.45, "must rank"),
        (("fronts", 0, "entries", 0, "stage"), "head", "must rank"),
        (("fronts", 0, "entries", 0, "cost"), {}, "must rank"),
        # Cheaper and better than all others: these are on no front then.
        (("fronts", 0, "entries", 0, "cost", "flops"), 1.0, "must rank"),
        (("recipe", "seeds"), 1, "recipe key must be known"),
    ],
)
def test_what_does_not_fit_is_told(path: Path, keys: tuple[Any, ...], value: object, message: str) -> None:
    document = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message) as caught:
        read_pareto(path)
    assert str(path) in caught.value.where


@pytest.mark.parametrize("text", ["", "[]", "{", "\ufeff{}"])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "pareto.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"pareto.json"):
        read_pareto(tmp_path / "pareto.json")
    with pytest.raises(InputError, match="must be a readable JSON file"):
        read_pareto(tmp_path / "none.json")
