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
    ("controller", "kills", "space"),
    [
        ("random", 2, "toy"),
        pytest.param("ppo", 6, "toy", marks=pytest.mark.faults),
        pytest.param("evolution", 4, "toy", marks=pytest.mark.faults),
        pytest.param("tpe", 4, "toy", marks=pytest.mark.faults),
        pytest.param("surrogate", 4, "toy", marks=pytest.mark.faults),
        pytest.param("ppo", 4, "fcos_decoder", marks=pytest.mark.faults),
        pytest.param("ppo", 4, "dynamic_cell", marks=pytest.mark.faults),
    ],
)
def test_a_killed_driver_goes_on_where_its_journal_ends(
    controller: str,
    kills: int,
    space: str,
    tmp_path: Path,
    tally: Tally,
    moments: random.Random,
    undisturbed: MakeUndisturbed,
) -> None:
    home = tmp_path / "home"
    recipe = document(tmp_path / "notes", {"budget": "60"}, controller, space, seconds=0.05)
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
