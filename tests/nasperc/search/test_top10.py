from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controllers.service.journal import Event
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.top10 import Top10, read_top10
from search_spaces.base import SearchSpace

MakeEvent = Callable[..., Event]
DESCRIPTION = {"data": {"classes": ["toy"]}, "weights": {"backbone": None}}


@pytest.fixture
def ranking(make_event: MakeEvent) -> Top10:
    """Three of the stage body, then one of the stage head: the best of them all was stopped."""
    top10 = Top10(size=3)
    head = {"body": (0, 0, 0, 0, 1), "head": (0, 1, 0)}
    for event in (
        make_event("stage_start"),
        make_event("completion", id=0, reward=0.6),
        make_event("completion", id=1, reward=0.9),
        make_event("stop", id=2, halfway=1.0),
        make_event("completion", id=3, reward=0.6),
        make_event("stage_start", stage="head"),
        make_event("completion", stage="head", id=4, reward=0.2, parts=head, widths={"body": 16}),
    ):
        top10.apply(event)
    return top10


@pytest.fixture
def path(tmp_path: Path, ranking: Top10, toy_recipe: Callable[..., Recipe], toy_space: SearchSpace) -> Path:
    assert ranking.write(tmp_path / "top10.json", toy_recipe(), toy_space, DESCRIPTION)
    return tmp_path / "top10.json"


def test_the_last_stage_comes_first_then_reward_then_the_earlier_candidate(path: Path) -> None:
    top10 = read_top10(path)
    assert [(entry.rank, entry.stage, entry.id) for entry in top10.entries] == [
        (1, "head", 4),
        (2, "body", 1),
        (3, "body", 0),
    ]
    assert top10.stage == "head"
    assert top10.entries[0].architecture.parts == {"body": (0, 0, 0, 0, 1), "head": (0, 1, 0)}
    assert top10.entries[0].widths == {"body": 16}
    assert top10.entries[0].cost == {"flops": 2e9}
    assert top10.search_cost_hours == pytest.approx(5 * 36 / 3600)
    assert top10.recipe.seed == 3
    assert top10.space.name == "toy"


def test_an_architecture_appears_once(make_event: MakeEvent) -> None:
    top10 = Top10(size=3)
    top10.apply(make_event("stage_start"))
    one, same = ({"body": body, "head": "original"} for body in ((1, 2, 3, 0, 0), (3, 2, 1, 0, 0)))
    assert top10.apply(make_event("completion", id=0, reward=0.1, parts=one))
    assert not top10.apply(make_event("completion", id=1, reward=0.2, parts=same))
    assert [event["id"] for event in top10.events()] == [0]


def test_a_penalty_moves_the_rank_and_leaves_the_reward(
    tmp_path: Path, make_event: MakeEvent, toy_recipe: Callable[..., Recipe], toy_space: SearchSpace
) -> None:
    top10 = Top10(size=3)
    top10.apply(make_event("stage_start"))
    for id, (reward, penalty) in enumerate([(0.9, 0.5), (0.6, 0.0), (0.5, 0.1)]):
        top10.apply(make_event("completion", id=id, reward=reward, penalty=penalty))
    assert not top10.apply(make_event("rejection", id=3))
    assert top10.cost_hours == pytest.approx((3 * 36 + 3.6) / 3600)
    path = tmp_path / "top10.json"
    assert top10.write(path, toy_recipe(), toy_space, DESCRIPTION)
    entries = read_top10(path).entries
    assert [(entry.id, entry.reward, entry.penalty) for entry in entries] == [
        (1, 0.6, 0.0),
        (0, 0.9, 0.5),
        (2, 0.5, 0.1),
    ]
    assert [entry.objective for entry in entries] == pytest.approx([0.6, 0.4, 0.4])
    change(path, "entries.1.penalty", -1.0)
    with pytest.raises(InputError, match=r"not valid at entries.1.penalty"):
        read_top10(path)


def test_nothing_is_written_without_a_completion(
    tmp_path: Path, make_event: MakeEvent, toy_recipe: Callable[..., Recipe], toy_space: SearchSpace
) -> None:
    top10 = Top10(size=3)
    top10.apply(make_event("stage_start"))
    top10.apply(make_event("failure", id=0, reason="NaN"))
    assert not top10.write(tmp_path / "top10.json", toy_recipe(), toy_space, DESCRIPTION)
    assert not list(tmp_path.iterdir())


def change(path: Path, keys: str, value: Any) -> None:
    document = json.loads(path.read_text())
    place: Any = document
    *parents, last = [int(key) if key.isdigit() else key for key in keys.split(".")]
    for key in parents:
        place = place[key]
    place[last] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("format", "nasperc-top10/9", "not valid at format"),
        ("extra", 1, "not valid at extra"),
        ("entries", [], "not valid at entries"),
        ("entries.0.reward", None, "not valid at entries.0.reward"),
        ("entries.0.status", "stopped", "not valid at entries.0.status"),
        ("entries.0.rank", 2, "ranks must count up"),
        ("entries.1.reward", 0.1, "ordered by reward"),
        ("entries.0.hash", "0" * 64, "hash of an architecture"),
        ("entries.0.architecture.parts.body.0", 4, r"token 0 of body \(body.op0\) must be one of 0, 1, 2, 3"),
        ("entries.0.architecture.space", "fcos_decoder", "the space of an architecture"),
        ("entries.0.widths.body", 0, "from 1 to 8192"),
        ("entries.0.widths.body", 10**9, "from 1 to 8192"),
        ("space.name", "fcos_decoder", "must be its recipe's"),
        ("recipe.space.name", "no_such_space", "registered name"),
        ("recipe.seeds", 1, "recipe key must be known"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(path: Path, keys: str, value: object, message: str) -> None:
    change(path, keys, value)
    with pytest.raises(InputError, match=message) as caught:
        read_top10(path)
    assert str(path) in caught.value.where or caught.value.where == "recipe key space.name"


def test_an_architecture_twice_in_the_file(path: Path) -> None:
    document = json.loads(path.read_text())
    document["entries"][2] = {**document["entries"][1], "rank": 3}
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="appear once"):
        read_top10(path)


@pytest.mark.parametrize("text", ["{", "[]", "\ufeff{}"])
def test_a_file_that_is_no_top10(tmp_path: Path, text: str) -> None:
    path = tmp_path / "top10.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"top10.json"):
        read_top10(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must exist"):
        read_top10(tmp_path / "top10.json")
