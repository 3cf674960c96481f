"""``kill -9`` of what a search on Ray consists of: workers, the controller service, the node, the driver.

Ray takes seconds to start, so one run takes many kills.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from command import PATIENCE_S, Command, alive, descendants, document, kill_all, on_ray
from conftest import MakeUndisturbed
from ray.cluster_utils import Cluster
from tally import Tally

pytestmark = [pytest.mark.faults, pytest.mark.ray]
WORKERS_KILLED, SERVICES_KILLED = 20, 10


def wait_for_progress(search: Command, completions: int) -> None:
    """Until there are that many more completions: then whoever was killed last is back at work."""
    wanted = len(search.events("completion")) + completions
    assert search.until(lambda: len(search.events("completion")) >= wanted), search.said()


def test_killed_workers_and_services_change_nothing(
    tmp_path: Path, tally: Tally, moments: random.Random, undisturbed: MakeUndisturbed, head: Cluster
) -> None:
    """One worker, so that the whole search can be compared with an undisturbed one."""
    terms = {"executor": "ray", "ray_address": head.address, "workers": 1, "budget": "160"}
    recipe = document(tmp_path / "notes", terms, "evolution", seconds=0.2)
    victims = ["worker"] * WORKERS_KILLED + ["service"] * SERVICES_KILLED
    moments.shuffle(victims)
    interruptions = []
    with Command(tmp_path / "home", recipe) as search:
        for victim in victims:
            wait_for_progress(search, 1)
            time.sleep(moments.uniform(0, 0.4))
            pid = search.evaluations()[-1]["pid"] if victim == "worker" else search.sessions()[-1]["pid"]
            # This process has started that Ray.
            assert pid in descendants(os.getpid()), f"the {victim} {pid} is not this search's"
            kill_all([pid])
            tally.fault(f"{victim} killed")
            interruptions.append(search.events())
        assert search.finish() == 0, search.said()
    tally.ended(search.run, interruptions, search.evaluations())
    tally.compare(search.run, undisturbed(recipe))
    # Every service but the first went on with the journal; the driver, and so the session, stayed.
    sessions = search.sessions()
    assert [event["event"] for event in sessions] == ["run_start", *["run_resume"] * SERVICES_KILLED]
    assert len({event["session"] for event in sessions}) == 1


def test_a_killed_driver_or_node_is_resumed(
    tmp_path: Path, tally: Tally, moments: random.Random, undisturbed: MakeUndisturbed
) -> None:
    """Both leave processes behind for a moment; none stays, and none writes to the run any more."""
    recipe = document(
        tmp_path / "notes", {"executor": "ray", "workers": 1, "budget": "60"}, "ppo", seconds=0.1
    )
    home, interruptions = tmp_path / "home", []
    for victim in ("driver", "node", "driver"):
        with on_ray(home, recipe) as search:
            wait_for_progress(search, 1)
            time.sleep(moments.uniform(0, 0.5))
            family = descendants(search.process.pid)
            assert len(family) > 3
            if victim == "driver":
                search.kill()
            else:
                kill_all(family)
                # Without its node the driver cannot go on, and must not wait for ever.
                code = search.finish()
                assert code not in (0, -signal.SIGKILL), search.said()
                assert f"--resume runs/{search.run.name}" in search.said()
            tally.fault(f"Ray {victim} killed")
            deadline = time.monotonic() + PATIENCE_S
            while any(alive(pid) for pid in family) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not [pid for pid in family if alive(pid)], "processes were left behind"
            interruptions.append(search.events())
    with on_ray(home, recipe) as search:
        assert search.finish() == 0, search.said()
    tally.ended(search.run, interruptions, search.evaluations())
    tally.compare(search.run, undisturbed(recipe))


def test_a_run_is_resumed_while_the_killed_driver_s_service_still_ends(
    tmp_path: Path, tally: Tally, head: Cluster
) -> None:
    """Whoever comes at once is refused by the service's own name, or goes on; nothing is lost either way."""
    terms = {"executor": "ray", "ray_address": head.address, "workers": 1, "budget": "40"}
    home, recipe = tmp_path / "home", document(tmp_path / "notes", terms, seconds=0.2)
    with Command(home, recipe) as search:
        wait_for_progress(search, 3)
        service = search.sessions()[-1]["pid"]
        search.kill()
        tally.fault("Ray driver killed")
        interrupted = search.events()
    refused = 0
    while True:
        with Command(home, recipe, "--executor", "local") as search:
            if search.finish() == 0:
                break
            assert f"process {service} on" in " ".join(search.said().split()), search.said()
            refused += 1
            assert refused < 20
    tally.ended(search.run, [interrupted], search.evaluations())
