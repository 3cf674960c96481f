"""Candidates that go wrong in every way, in a search on Ray by the public door."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from command import Command, document
from ray.cluster_utils import Cluster
from tally import Tally

from nasperc.search.top10 import read_top10

pytestmark = [pytest.mark.faults, pytest.mark.ray]


class Fault(NamedTuple):
    """The candidate that goes wrong, what is said of it, and whether it is tried again."""

    id: int
    words: str
    again: bool


FAULTS = {
    "nan": Fault(2, "finite", False),
    "inf": Fault(4, "finite", False),
    "out_of_memory": Fault(6, "out of memory", True),
    "raises": Fault(8, "RuntimeError: injected", False),
    "hangs": Fault(10, "no result within 5 s", True),
    "crashes": Fault(12, "its worker's process died", True),
}


@pytest.mark.parametrize("space", ["toy", "dynamic_cell"])
def test_each_is_recorded_with_its_reason_and_the_search_goes_on(
    space: str, tmp_path: Path, tally: Tally, head: Cluster
) -> None:
    faults = {kind: [fault.id] for kind, fault in FAULTS.items()}
    search = {"executor": "ray", "ray_address": head.address, "workers": 1}
    search |= {"budget": "30", "candidate_time_limit_s": 5}
    recipe = document(tmp_path / "notes", search, "ppo", space, seconds=0.05, **faults)
    with Command(tmp_path / "home", recipe) as run:
        assert run.finish() == 0, run.said()
    reasons = {event["id"]: event["reason"] for event in run.events("failure")}
    for kind, fault in FAULTS.items():
        tally.fault(kind)
        assert fault.words in reasons.pop(fault.id), kind
        tries = sum(event["id"] == fault.id for event in run.events("proposal", "reassign"))
        assert tries == (2 if fault.again else 1), kind
    assert not reasons
    assert len(run.events("completion")) == 30 - len(FAULTS)
    ranked = {entry.id for entry in read_top10(run.run / "top10.json").entries}
    assert not ranked & {fault.id for fault in FAULTS.values()}
    tally.ended(run.run, [])
