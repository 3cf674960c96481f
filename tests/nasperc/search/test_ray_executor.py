"""One Ray for all tests here: starting it costs seconds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from controllers.service.journal import Event, Journal
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.recipe.search_section import SearchRecipe
from nasperc.search import ray_executor
from nasperc.search.ray_executor import RemoteService, Slot
from nasperc.search.ray_start import NAMESPACE, gpus_per_worker, ray, start_ray
from nasperc.search.run import run_search
from nasperc.search.run_folder import RunFolder
from nasperc.search.service_actor import ServiceActor
from nasperc.search.top10 import read_top10
from nasperc.search.worker import SlotWorker

MakeRecipe = Callable[..., Recipe]

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    start_ray(SearchRecipe(workers=2, dashboard=False))
    yield
    ray.shutdown()


def events(folder: Path, kind: str) -> list[Event]:
    return [event for event in Journal.read(folder / "journal.jsonl") if event["event"] == kind]


def test_killed_processes_do_not_end_the_search(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    """A worker is killed, one hangs, the controller service is killed: the journal holds every completion."""
    folder = tmp_path / "run"
    killed: list[int] = []

    def kill_service() -> None:
        while not killed:
            time.sleep(0.05)
            if (folder / "journal.jsonl").exists() and len(events(folder, "completion")) >= 8:
                killed.append(events(folder, "run_start")[0]["pid"])
                os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_service, daemon=True)
    killer.start()
    search = {"executor": "ray", "workers": 2, "budget": "20", "candidate_time_limit_s": 0.5}
    trouble = {"kills_itself_once": [3], "hangs": [4], "nan": [5], "raises": [6], "eats_memory": [7]}
    search["worker_memory_gib"] = 2.0
    path = run_search(toy_recipe(search, seconds=0.05, **trouble), folder, console=console)
    killer.join()

    assert sorted(event["id"] for event in events(folder, "completion")) == [0, 1, 2, 3, *range(8, 20)]
    failures = {event["id"]: event["reason"] for event in events(folder, "failure")}
    assert set(failures) == {4, 5, 6, 7}
    assert failures[4] == "no result within 0.5 s: ended by the watchdog"
    assert "out of memory" in failures[7]
    retries = {event["id"]: event["reason"] for event in events(folder, "retry")}
    assert retries[3] == "its worker's process died"
    assert (retries[4], retries[7]) == (failures[4], failures[7])
    assert not {5, 6} & set(retries)
    assert {event["slot"] for event in events(folder, "proposal")} == {0, 1}
    assert not events(folder, "setup_failure")
    restarts = events(folder, "run_resume")
    assert len(restarts) == 1
    assert restarts[0]["pid"] != killed[0]
    assert len(read_top10(path).entries) == 10

    assert not (folder / "ray").exists()
    assert not named_actors()


def test_slots_that_cannot_be_set_up_end_the_search(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    """One raises, the others die without a word."""
    folder = tmp_path / "run"
    search = {"executor": "ray", "workers": 1, "budget": "4"}
    recipe = toy_recipe(search, setup_fails_once=True, process_dies_in_setup=True)
    with pytest.raises(InputError, match=r"3 times in a row .*died before it was ready"):
        run_search(recipe, folder, console=console)
    errors = [event["error"] for event in events(folder, "setup_failure")]
    assert errors[0].startswith("RuntimeError: the cache is gone (toy_plugin.py:")
    assert errors[1:] == ["the worker process died before it was ready"] * 2
    assert not named_actors()


def test_a_run_with_another_writer_is_refused(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    folder = tmp_path / "run"
    RunFolder(folder).create(toy_recipe({"executor": "ray", "workers": 1}))
    journal = Journal(folder / "journal.jsonl")
    with pytest.raises(InputError, match="one writer"):
        run_search(None, folder, resume=True, console=console)
    journal.close()
    assert not named_actors()


def test_slots_have_a_gpu_each_or_share_those_that_there_are() -> None:
    assert gpus_per_worker(SearchRecipe(workers=2), 0.0) == 0.0
    assert gpus_per_worker(SearchRecipe(workers=2), 1.0) == 0.5
    assert gpus_per_worker(SearchRecipe(workers=2), 8.0) == 1.0
    assert gpus_per_worker(SearchRecipe(workers=2, gpus_per_worker=0.25), 1.0) == 0.25
    with pytest.raises(InputError, match="gpus_per_worker"):
        gpus_per_worker(SearchRecipe(workers=2, gpus_per_worker=1), 0.0)


def named_actors() -> list[dict[str, str]]:
    actors: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
    return [actor for actor in actors if actor["namespace"] == NAMESPACE]


def test_short_candidates_share_a_step_whose_result_the_driver_keeps(
    tmp_path: Path, toy_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe({"budget": "6"}).to_dict()
    actor = ServiceActor(recipe, str(tmp_path), "session")
    # Without Ray Tune around it, and with the service in this process.
    slot = Slot.__new__(Slot)
    slot._service, slot._ready = cast(RemoteService, actor), False
    slot._worker = SlotWorker(recipe, tmp_path, 0, lambda candidate, result: None)
    monkeypatch.setattr(ray_executor, "STEP_S", 0.0)
    assert slot.step() == {"done": False}
    assert len(events(tmp_path, "completion")) == 1
    monkeypatch.setattr(ray_executor, "STEP_S", 600.0)
    assert slot.step() == {"done": True}
    assert len(events(tmp_path, "completion")) == 6
    actor.close()
