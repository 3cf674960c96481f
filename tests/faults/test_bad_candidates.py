"""Candidates that go wrong in every way, in a search on Ray by the public door."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Command, document
from tally import Tally

from nasperc.search.top10 import read_top10

pytestmark = pytest.mark.faults
FAULTS = {
    "nan": ([2], "finite"),
    "inf": ([4], "finite"),
    "out_of_memory": ([6], "MemoryError"),
    "raises": ([8], "RuntimeError: injected"),
    "hangs": ([10], "no result within 5 s"),
    "crashes": ([12], "its worker asked again twice: it died or hung"),
}


def test_each_is_recorded_with_its_reason_and_the_search_goes_on(tmp_path: Path, tally: Tally) -> None:
    faults = {kind: ids for kind, (ids, _) in FAULTS.items()}
    search = {"executor": "ray", "workers": 2, "budget": "30", "candidate_time_limit_s": 5}
    with Command(
        tmp_path / "home", document(tmp_path / "notes", search, "ppo", seconds=0.05, **faults)
    ) as run:
        assert run.finish() == 0, run.said()
    reasons = {event["id"]: event["reason"] for event in run.events("failure")}
    assert set(reasons) == {id for ids in faults.values() for id in ids}
    for kind, (ids, words) in FAULTS.items():
        for id in ids:
            tally.fault(kind)
            assert words in reasons[id], kind
    assert len(run.events("completion")) == 30 - len(reasons)
    assert not set(reasons) & {entry.id for entry in read_top10(run.run / "top10.json").entries}
    tally.ended(run.run, [])
