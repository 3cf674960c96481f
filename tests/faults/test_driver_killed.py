"""``kill -9`` of the driver, with the service and its one worker in the same process."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from command import Command, document
from conftest import MakeUndisturbed
from tally import Tally


@pytest.mark.parametrize(
    ("controller", "kills"),
    [
        ("random", 2),
        pytest.param("ppo", 6, marks=pytest.mark.faults),
        pytest.param("evolution", 4, marks=pytest.mark.faults),
        pytest.param("tpe", 4, marks=pytest.mark.faults),
        pytest.param("surrogate", 4, marks=pytest.mark.faults),
    ],
)
def test_a_killed_driver_goes_on_where_its_journal_ends(
    controller: str,
    kills: int,
    tmp_path: Path,
    tally: Tally,
    moments: random.Random,
    undisturbed: MakeUndisturbed,
) -> None:
    home, recipe = tmp_path / "home", document(tmp_path / "notes", {"budget": "60"}, controller, seconds=0.05)
    interruptions = []
    for _ in range(kills):
        with Command(home, recipe) as search:
            assert search.until_at_work(), search.said()
            time.sleep(moments.uniform(0, 2.0 / kills))
            search.kill()
            tally.fault("driver killed")
            interruptions.append(search.events())
    with Command(home, recipe) as search:
        assert search.finish() == 0, search.said()
    tally.ended(search.run, interruptions, search.evaluations())
    tally.compare(search.run, undisturbed(recipe))
    sessions = search.sessions()
    assert [event["event"] for event in sessions] == ["run_start", *["run_resume"] * kills]
    # The dead process's lock file is no obstacle; everyone wrote under its own name.
    assert len({event["pid"] for event in sessions}) == kills + 1
