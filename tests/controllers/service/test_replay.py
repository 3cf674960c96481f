"""Replaying a journal gives every controller the state that it had, with its snapshots and without them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from controller_tests import through_disk
from toy_space import ToyRecipe, ToySpace, toy_reward

from controllers.base import Candidate, Controller, Result
from controllers.service.journal import Journal
from controllers.service.plan import SearchPlan
from controllers.service.service import ControllerService
from nasperc.plugins import load_component
from search_spaces.base import TokenSpace

SPACE = ToySpace(ToyRecipe(choices=4, body=5, head=2))
PLAN = SearchPlan(seed=2, candidates=400, slots=3, early_stop_k=1.0, early_stop_minimum=4, snapshot_every=15)
OPTIONS: dict[str, dict[str, Any]] = {
    "ppo": {"hidden": 6, "batch": 3, "epochs": 2},
    "evolution": {"population": 6, "sample": 3},
    "tpe": {"startup": 6},
    "surrogate": {"initial": 6, "interval": 5, "pool": 60, "members": 2, "hidden": 8, "steps": 20},
    "random": {},
}


class Made:
    """Makes controllers, and shows the last one."""

    def __init__(self, name: str) -> None:
        self._class = load_component("controller", name)
        self._recipe = self._class.Recipe(**OPTIONS[name])
        self.last: Controller | None = None

    def __call__(self, tokens: TokenSpace, seed: int) -> Controller:
        self.last = self._class(tokens, self._recipe, seed)
        assert self.last is not None
        return self.last

    def state(self) -> Any:
        """Of the last controller, as plain values."""
        assert self.last is not None
        return plain(through_disk(self.last.state_dict()))


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def search(folder: Path, made: Made, rounds: int) -> None:
    """Three slots that finish in another order than they began; every seventh candidate fails."""
    service = ControllerService(folder, SPACE, made, PLAN, clock=lambda: 0.0)
    for _ in range(rounds):
        candidates = [service.ask(slot) for slot in range(3)]
        for slot in (2, 0, 1):
            candidate = candidates[slot]
            assert isinstance(candidate, Candidate)
            reward = toy_reward(candidate.architecture) + candidate.seed % 7 / 10
            stopped = candidate.threshold is not None and reward / 2 < candidate.threshold
            if candidate.seed % 7 == 0:
                result = Result("failed", reason="scripted")
            elif stopped:
                result = Result("stopped", halfway=reward / 2)
            else:
                result = Result("completed", reward=reward, halfway=reward / 2)
            service.tell(slot, candidate.id, result)
    # Two are pending when the driver goes.
    service.ask(0)
    service.ask(2)
    service.close()


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_replayed_journal_gives_the_controller_its_state(name: str, tmp_path: Path) -> None:
    made = Made(name)
    search(tmp_path / "run", made, rounds=15)
    expected = made.state()
    kinds = {event["event"] for event in Journal.read(tmp_path / "run" / "journal.jsonl")}
    assert kinds >= {"proposal", "completion", "failure", "snapshot"}
    for way in ("with", "without"):
        folder = tmp_path / way
        shutil.copytree(tmp_path / "run", folder)
        if way == "without":
            for snapshot in folder.glob("controller-*.pt"):
                snapshot.unlink()
        replayed = Made(name)
        service = ControllerService(folder, SPACE, replayed, PLAN)
        (resumed,) = [event for event in service.events_since(0) if event["event"] == "run_resume"]
        service.close()
        assert not resumed["diverged"]
        assert (resumed["snapshot"] is not None) == (way == "with")
        assert replayed.state() == expected, way


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_same_events_give_the_same_journal(name: str, tmp_path: Path) -> None:
    journals = []
    for run in ("one", "other"):
        search(tmp_path / run, Made(name), rounds=10)
        events = Journal.read(tmp_path / run / "journal.jsonl")
        # Snapshots are named by their content too.
        kept = [{**event, "time": 0.0} for event in events if event["event"] not in ("run_start",)]
        journals.append(kept)
    assert journals[0] == journals[1]
