"""The time of a run by the monotonic clock; the wall clock only where old events have nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Bench, candidate, completed, events

from controllers.service import record
from controllers.service.answers import Finished
from controllers.service.journal import Event
from controllers.service.run_time import RunTime


def fold(*taken: Event) -> RunTime:
    time = RunTime()
    for event in taken:
        time.take(event)
    return time


def old(kind: str, time: float, **values: Any) -> Event:
    plan = {"plan": {"candidate_time_limit": 60.0}} if kind == "run_start" else {}
    return {"event": kind, "time": time, "session": "a", **plan, **values}


def new(kind: str, at: float, time: float = 0.0, **values: Any) -> Event:
    return {**old(kind, time), "at": at, **values}


def test_old_events_count_by_the_wall_clock_but_no_step_back_and_none_beyond_a_candidates_limit() -> None:
    start = old("run_start", 1000.0)
    assert fold(start, old("a", 1010.0), old("b", 1030.0)).seconds == 30.0
    assert fold(start, old("a", 1010.0), old("b", 500.0), old("c", 505.0)).seconds == 15.0
    assert fold(start, old("a", 1010.0), old("b", 40_000.0), old("c", 40_005.0)).seconds == 75.0
    # Neither does what lies between two sessions.
    assert fold(start, old("a", 1010.0), old("run_resume", 1050.0), old("b", 1051.0)).seconds == 11.0
    chosen = fold(start, old("selection", 1310.0, seconds=300.0))
    assert (chosen.seconds, chosen.counted(chosen.seconds)) == (310.0, 10.0)


def test_new_events_count_by_their_own_clock_whatever_the_wall_clock_says() -> None:
    start = new("run_start", 0.0, 1000.0, zero=50.0, boot="x")
    time = fold(start, new("a", 4.0, 90_000.0), new("b", 5.0, 3.0))
    assert time.seconds == 5.0
    assert (time.at(54.0), time.at(58.0)) == (4.0, 8.0)
    time = fold(start, new("a", 4.0), new("run_resume", 0.0, session="b", zero=9.0, boot="y"), new("b", 2.0))
    assert (time.seconds, time.began, time.at(12.0)) == (6.0, 4.0, 7.0)


def test_an_old_journal_goes_on_by_the_new_clock_and_a_new_one_below_an_older_version() -> None:
    taken = [old("run_start", 1000.0), old("a", 1010.0)]
    taken += [new("run_resume", 0.0, 5000.0, zero=7.0, boot="x"), new("b", 3.0, 0.0)]
    assert fold(*taken).seconds == 13.0
    taken += [old("run_resume", 6000.0), old("c", 6004.0)]
    assert fold(*taken).seconds == 17.0


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.booleans(), st.floats(0, 1e6)), max_size=12))
def test_time_never_goes_back(steps: list[tuple[float, bool, float]]) -> None:
    time, last = RunTime(), 0.0
    time.take(old("run_start", 0.0))
    for wall, resumes, at in steps:
        event = old("run_resume" if resumes else "a", wall)
        time.take(event if at > 5e5 else {**event, "at": at})
        assert time.seconds >= last
        last = time.seconds


def test_a_budget_in_seconds_does_not_follow_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    service = bench.open(candidates=None, seconds=20.0)
    for step in (-1e6, 1e6, -1e6, 1e6):
        monkeypatch.setattr(record.time, "time", lambda step=step: 1e9 + step)
        service.tell(0, candidate(service.ask(0)).id, completed(0.5))
        bench.clock.now += 5
        assert service.status().elapsed == bench.clock.now - 1000
    assert isinstance(service.ask(0), Finished)
    assert service.status().elapsed == 20.0
    assert {event["time"] - 1e9 for event in events(service, "completion")} == {-1e6, 1e6}


def test_a_restarted_service_of_the_same_driver_counts_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open("driver", candidate_time_limit=60.0)
    first = candidate(service.ask(0))
    bench.clock.now += 10
    service.halfway(0, first.id, 0.5)
    service.close()
    # Its slots were at work meanwhile.
    bench.clock.now += 40
    service = bench.open("driver", candidate_time_limit=60.0)
    assert service.status().elapsed == 50.0
    start, resumed = events(service, "run_start", "run_resume")
    assert (resumed["zero"], resumed["boot"], resumed["at"]) == (start["zero"], start["boot"], 50.0)
    # Handed out 61 s ago, by whichever service.
    bench.clock.now += 11
    assert candidate(service.ask(1)).id != first.id or events(service, "retry")
    (retry,) = events(service, "retry")
    assert (retry["id"], retry["reason"]) == (first.id, "no result within 60 s")
    service.close()
    # Another driver begins at its own zero: what lay between them was no work.
    bench.clock.now += 1000
    service = bench.open("another", candidate_time_limit=60.0)
    assert service.status().elapsed == 61.0
    assert events(service, "run_resume")[-1]["at"] == 0.0


def test_after_a_reboot_the_clock_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    service = bench.open("driver")
    bench.clock.now += 10
    candidate(service.ask(0))
    service.close()
    monkeypatch.setattr(record, "boot_id", lambda: "another boot")
    bench.clock.now = 3.0
    service = bench.open("driver")
    assert service.status().elapsed == 10.0
    bench.clock.now += 2
    assert service.status().elapsed == 12.0
