"""The wall clock is stepped under a search: by NTP, by a hand, by a laptop that slept."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command, document
from conftest import MakeUndisturbed
from tally import Tally

from controllers.service.journal import Journal
from controllers.service.run_time import RunTime

SHIM = Path(__file__).with_name("clock_shim.c")
# Beyond every time limit, and before the begin of the run.
STEP_S = 36_000


@pytest.fixture
def clock(tmp_path: Path) -> tuple[dict[str, str], Callable[[int], None]]:
    """The environment of a process whose wall clock can be stepped, and what steps it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("a wall clock that can be stepped needs a C compiler")
    library, offset = tmp_path / "clock.so", tmp_path / "offset"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SHIM], check=True)
    offset.write_text("0")

    def step(seconds: int) -> None:
        offset.with_suffix(".new").write_text(str(seconds))
        offset.with_suffix(".new").replace(offset)

    return {**os.environ, "LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}, step


def worked(journal: Path) -> float:
    """Seconds that the journal counts as the run's."""
    clock = RunTime()
    for event in Journal.read(journal):
        clock.take(event)
    return clock.counted(clock.seconds)


@pytest.mark.parametrize("way", [1, -1])
def test_a_budget_in_time_is_spent_by_work_alone(
    way: int, tmp_path: Path, tally: Tally, clock: tuple[dict[str, str], Callable[[int], None]]
) -> None:
    environment, step = clock
    recipe = document(tmp_path / "notes", {"budget": "4s"}, seconds=0.3)
    began = time.monotonic()
    with Command(tmp_path / "home", recipe, env=environment) as search:
        assert search.until(lambda: len(search.events("completion")) >= 3), search.said()
        step(way * STEP_S)
        tally.fault("clock stepped")
        assert search.finish() == 0, search.said()
    took = time.monotonic() - began
    assert 4.0 <= worked(search.journal) <= took
    stamps = [event["time"] for event in search.events()]
    assert max(stamps) - min(stamps) > STEP_S / 2, "the clock was not stepped"
    tally.ended(search.run, [], search.evaluations())


@pytest.mark.parametrize("steps", [2, pytest.param(12, marks=pytest.mark.faults)])
def test_steps_and_kills_lose_and_repeat_nothing(
    steps: int,
    tmp_path: Path,
    tally: Tally,
    moments: random.Random,
    undisturbed: MakeUndisturbed,
    clock: tuple[dict[str, str], Callable[[int], None]],
) -> None:
    environment, step = clock
    home = tmp_path / "home"
    recipe = document(tmp_path / "notes", {"budget": "60"}, seconds=0.05)
    interruptions, began = [], time.monotonic()
    for _ in range(steps):
        with Command(home, recipe, env=environment) as search:
            assert search.until_at_work(), search.said()
            step(moments.choice((-1, 1)) * moments.randrange(STEP_S))
            tally.fault("clock stepped")
            time.sleep(moments.uniform(0, 1.5 / steps))
            search.kill()
            tally.fault("driver killed")
            interruptions.append(search.events())
    with Command(home, recipe, env=environment) as search:
        step(moments.choice((-1, 1)) * moments.randrange(STEP_S))
        assert search.finish() == 0, search.said()
    assert worked(search.journal) <= time.monotonic() - began
    tally.ended(search.run, interruptions, search.evaluations())
    tally.compare(search.run, undisturbed(recipe))
