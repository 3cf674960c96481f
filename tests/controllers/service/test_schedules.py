"""Slots that ask, tell, die and come late, in any order, below a service that is restarted: what must hold."""

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Bench, completed
from toy_space import ToyRecipe, ToySpace

from controllers.base import Candidate, Result
from controllers.service.journal import Event, Journal

SPACE = ToySpace(ToyRecipe(choices=5, stages=("body",)))
# The same bodies come up again and again, so that there are replays and redraws too.
BODIES = [(i % 4, 4, j, (j + 1) % 4) for i in range(4) for j in (0, 1, 2, 3, 0)]
RESULTS = [
    completed(0.5),
    Result("stopped", halfway=0.2),
    Result("failed", reason="the loss is nan"),
    Result("failed", reason="out of memory", transient=True),
    Result("rejected", reason="flops exceed the limit", cost={"flops": 9.0}),
]
ENDS = ("completion", "stop", "failure", "rejection")
SLOT = st.integers(0, 2)
ACTIONS = st.one_of(
    st.tuples(st.just("ask"), SLOT),
    st.tuples(st.just("tell"), SLOT, st.sampled_from(RESULTS)),
    st.tuples(st.just("wait"), st.just(70)),
    st.tuples(st.just("restart"), st.booleans()),
)


@given(st.lists(ACTIONS, max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_schedule(actions: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), BODIES)
        bench.space = SPACE
        plan = {"candidates": 12, "candidate_time_limit": 60, "snapshot_every": 5, "max_replays": 40}
        driver = 0
        service = bench.open(session=str(driver), **plan)
        held: dict[object, Candidate] = {}
        for kind, what, *result in actions:
            if kind == "ask":
                answer = service.ask(what)  # type: ignore[arg-type]
                if isinstance(answer, Candidate):
                    held[what] = answer
            elif kind == "tell" and what in held:
                # Maybe long after the candidate was given to another slot.
                service.tell(what, held[what].id, result[0])  # type: ignore[arg-type]
            elif kind == "wait":
                bench.clock.now += what  # type: ignore[operator]
            elif kind == "restart":
                told = bench.controller.told if bench.made else None
                service.close()
                driver += bool(what)
                service = bench.open(session=str(driver), **plan)
                if bench.made:
                    assert bench.controller.told == told
        status = service.status()
        service.close()
        check(Journal.read(bench.folder / "journal.jsonl"), status.pending, driver)


def check(events: list[Event], pending: tuple[int, ...], drivers: int) -> None:
    ends = Counter(event["id"] for event in events if event["event"] in ENDS)
    proposed = [event["id"] for event in events if event["event"] == "proposal"]
    assert proposed == list(range(len(proposed)))
    # Rejected ones are not counted.
    assert len(proposed) - sum(event["event"] == "rejection" for event in events) <= 12
    # Each ends once or is pending.
    assert sorted([*ends, *pending]) == proposed
    assert set(ends.values()) <= {1}
    retries = Counter(event["id"] for event in events if event["event"] == "retry")
    assert all(count <= 1 + drivers for count in retries.values())
    for event in events:
        if event["event"] == "failure":
            assert event["transient"] <= event["retried"] <= retries[event["id"]]
    # Nobody has two, and what is handed out was without an owner.
    owners: dict[int, int | None] = {}
    for event in events:
        kind, id = event["event"], event.get("id")
        if kind == "run_resume":
            owners = (
                dict.fromkeys(event["pending"])
                if event["session"] != session_before(events, event)
                else owners
            )
        elif kind in ("proposal", "reassign"):
            assert owners.get(id) is None
            assert event["slot"] not in owners.values()
            owners[id] = event["slot"]
        elif kind == "retry":
            assert owners[id] == event["slot"]
            owners[id] = None
        elif kind in ENDS:
            assert not event.get("transient") or owners[id] == event["slot"]
            owners.pop(id)
    assert sorted(owners) == sorted(pending)


def session_before(events: list[Event], resume: Event) -> str:
    """The driver before a resumption."""
    before = events[: next(number for number, event in enumerate(events) if event is resume)]
    return next(event["session"] for event in reversed(before) if "session" in event)  # type: ignore[no-any-return]
