from __future__ import annotations

import io
import time
from collections.abc import Callable

from rich.console import Console

from controllers.service.journal import Event
from nasperc.search.live_display import PlainDisplay, PrepareDisplay, duration, line, panel, search_display
from nasperc.search.progress import SearchProgress
from search_spaces.base import SearchSpace

MakeEvent = Callable[..., Event]


def running(space: SearchSpace, make_event: MakeEvent, now: float) -> SearchProgress:
    progress = SearchProgress(space)
    for event in (
        make_event("run_start", now - 60, None),
        make_event("stage_start", now - 60),
        make_event("proposal", now - 60, id=0),
        make_event("completion", now - 50, id=0, reward=0.5),
        make_event("failure", now - 40, id=1, reason="ValueError: no [boxes]"),
        make_event("update", now - 40, diagnostics={"entropy": 1.25, "approx_kl": None}),
        make_event("proposal", now - 30, id=2, slot=1),
    ):
        progress.apply(event)
    return progress


def text(renderable: object, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_costs_and_other_runs_are_shown(toy_space: SearchSpace, make_event: MakeEvent) -> None:
    progress = running(toy_space, make_event, 1000.0)
    for event in (
        make_event("warm_start", 940.0, evaluations=12, skipped={}),
        make_event("rejection", 980.0, id=2, reason="flops 3 exceed [2]"),
        make_event("completion", 990.0, id=3, reward=1.0, penalty=0.25),
    ):
        progress.apply(event)
    said = line(progress, 1000.0)
    assert "0 replayed, 1 rejected)" in said
    assert "best 0.7500 (reward 1.0000 before its cost)" in said
    assert "12 evaluations of other runs" in said
    shown = text(panel(progress, 1000.0))
    for part in ("1 rejected", "reward 1.0000", "candidate 2: flops 3 exceed [2]", "12 evaluations"):
        assert part in shown


def test_a_line_says_how_the_search_stands(toy_space: SearchSpace, make_event: MakeEvent) -> None:
    said = line(running(toy_space, make_event, 1000.0), 1000.0)
    for part in (
        "[body, stage 1 of 2]",
        "2 of 10 done",
        "(1 completed, 0 stopped, 1 failed, 0 replayed)",
        "best 0.5000",
        "mean of last 30 0.5000",
        "120/h",
        "4m 00s left",
        "last failure: candidate 1: ValueError: no [boxes]",
    ):
        assert part in said


def test_the_panel_shows_slots_and_controller(toy_space: SearchSpace, make_event: MakeEvent) -> None:
    said = text(panel(running(toy_space, make_event, 1000.0), 1000.0))
    for part in ("0.5000 (candidate 0)", "slot 1", "candidate 2 for 30s", "entropy 1.25", "no [boxes]"):
        assert part in said


def test_no_terminal_gets_a_line_every_few_seconds_and_no_escape_codes(
    toy_space: SearchSpace, make_event: MakeEvent, console: Console
) -> None:
    progress = running(toy_space, make_event, time.monotonic())
    display = search_display(console, every_s=3600.0)
    assert isinstance(display, PlainDisplay)
    with display:
        display.update(progress)
        progress.apply(make_event("completion", time.monotonic(), id=2, reward=0.7))
        display.update(progress)  # too early
        progress.apply(make_event("stage_start", time.monotonic(), "head"))
        display.update(progress)  # a stage is always said
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed.count("\n") == 2
    assert "head, stage 2 of 2" in printed
    assert "\x1b" not in printed


def test_a_terminal_gets_the_panel(toy_space: SearchSpace, make_event: MakeEvent) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with search_display(console) as display:
        display.update(running(toy_space, make_event, time.monotonic()))
    assert "nasperc search" in console.file.getvalue()  # type: ignore[attr-defined]


def test_preparation_says_each_phase_and_its_end(console: Console) -> None:
    with PrepareDisplay(console, every_s=3600.0) as display:
        for fraction in (0.0, 0.5, 1.0):
            display("fine-tuning", fraction)
        display("cache", 0.0)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == ["fine-tuning: 0%", "fine-tuning: done in 0s", "cache: 0%", "cache: done in 0s"]


def test_durations() -> None:
    assert [duration(seconds) for seconds in (None, 7.4, 250, 11100)] == ["?", "7s", "4m 10s", "3h 05m"]
