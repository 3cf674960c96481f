from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from controllers.service.journal import Event
from nasperc.search.progress import SearchProgress
from nasperc.search.tensorboard import SearchScalars
from search_spaces.base import SearchSpace

MakeEvent = Callable[..., Event]


def write(folder: Path, space: SearchSpace, events: list[Event]) -> dict[str, list[tuple[int, float, float]]]:
    progress, scalars = SearchProgress(space), SearchScalars(folder)
    for event in events:
        progress.apply(event)
        scalars.apply(event, progress)
    scalars.close()
    reader = EventAccumulator(str(folder))
    reader.Reload()
    tags = reader.Tags()["scalars"]
    return {tag: [(s.step, s.value, s.wall_time) for s in reader.Scalars(tag)] for tag in tags}


@pytest.fixture
def events(make_event: MakeEvent) -> list[Event]:
    return [
        make_event("run_start", 100.0, None),
        make_event("stage_start", 100.0),
        make_event("proposal", 100.0, id=1),
        make_event("completion", 110.0, id=1, reward=0.5),
        make_event("update", 110.0, diagnostics={"baseline": 0.5, "entropy": 1.5, "approx_kl": None}),
        make_event("stop", 120.0, id=2, halfway=0.25),
        make_event("completion", 130.0, id=3, reward=0.25, halfway=None),
    ]


def test_scalars_by_candidate(tmp_path: Path, toy_space: SearchSpace, events: list[Event]) -> None:
    scalars = write(tmp_path / "tb", toy_space, events)
    assert scalars["reward/candidate"] == [(1, 0.5, 110.0), (3, 0.25, 130.0)]
    assert scalars["reward/best"] == [(1, 0.5, 110.0), (3, 0.5, 130.0)]
    assert scalars["reward/moving_average"] == [(1, 0.5, 110.0), (3, 0.375, 130.0)]
    assert scalars["reward/halfway"] == [(1, 0.25, 110.0), (2, 0.25, 120.0)]
    assert scalars["controller/baseline"] == [(1, 0.5, 110.0)]
    assert scalars["controller/entropy"] == [(1, 1.5, 110.0)]
    assert "controller/approx_kl" not in scalars
    assert [value for _, value, _ in scalars["share/op/op0"]] == pytest.approx([0.8] * 3)
    assert [value for _, value, _ in scalars["share/op/op2"]] == [0.0] * 3
    assert [value for _, value, _ in scalars["candidate/seconds"]] == [36.0] * 3


def test_a_resumed_run_writes_every_scalar_once(
    tmp_path: Path, toy_space: SearchSpace, events: list[Event]
) -> None:
    write(tmp_path / "tb", toy_space, events[:4])
    resumed = write(tmp_path / "tb", toy_space, events)
    assert resumed == write(tmp_path / "undisturbed", toy_space, events)


def test_with_a_cost_target_there_are_both_rewards(
    tmp_path: Path, toy_space: SearchSpace, events: list[Event]
) -> None:
    scalars = write(tmp_path / "tb", toy_space, [{**event, "penalty": 0.125} for event in events])
    assert scalars["reward/candidate"] == [(1, 0.5, 110.0), (3, 0.25, 130.0)]
    assert scalars["reward/penalised"] == [(1, 0.375, 110.0), (3, 0.125, 130.0)]
    assert scalars["reward/best"] == [(1, 0.375, 110.0), (3, 0.375, 130.0)]
