import time
from pathlib import Path

import pytest

from benchmarks.search_overhead import (
    MemoryTrace,
    overhead,
    overhead_verdict,
    results,
    run,
    train_bare,
    wall_seconds,
)
from nasperc.errors import InputError
from nasperc.recipe.reading import load_recipe

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "search_overhead.py"
TOY = ROOT / "tests" / "nasperc" / "search" / "toy_plugin.py"


def nothing(count, **search):
    overrides = {
        "search": {"budget": str(count), "executor": "local", **search},
        "proxy": {"name": f"{SCRIPT}:NothingProxy"},
        "controller": {"name": "random"},
    }
    return load_recipe(str(SCRIPT.with_suffix(".yaml")), [overrides])


def test_two_workers_that_wait_a_tenth_of_the_time():
    # 20 candidates of 9 s by two workers take 90 s; 100 s are a ninth more.
    assert overhead(100.0, workers=2, candidates=20, mean=9.0) == pytest.approx(1 / 9)


def test_a_machine_that_was_not_quiet_gives_no_verdict():
    assert overhead_verdict(0.04, 1.01) == "bound <= 5%: held"
    assert overhead_verdict(0.06, 1.01) == "bound <= 5%: missed"
    assert overhead_verdict(-0.2, 0.8).startswith("no verdict")


def test_wall_is_from_the_first_proposal_to_the_last_result_without_preparation():
    times = {"run_start": 1.0, "proposal": 5.0, "completion": 9.0, "stop": 30.0, "stage_end": 50.0}
    events = [
        {"event": event, "time": 0.0, "at": at, "seconds": 100.0, "plan": {}} for event, at in times.items()
    ]
    assert [event["event"] for event in results(events)] == ["completion", "stop"]
    assert wall_seconds(events) == 25.0
    selection = {"event": "selection", "time": 0.0, "at": 7.0, "seconds": 3.0}
    assert wall_seconds([*events[:2], selection, *events[2:]]) == 22.0


def test_bare_processes_give_the_rewards_of_the_search(tmp_path):
    recipe = nothing(6, workers=2)
    with MemoryTrace(tmp_path / "run" / "journal.jsonl") as memory:
        events = run(recipe, tmp_path / "run")
        # The local executor is done before the trace has taken a sample.
        time.sleep(1.0)
    trained = results(events)
    assert len(trained) == 6
    bare = train_bare(recipe, tmp_path / "prepared", trained)
    assert [result.reward for result in bare] == [event["reward"] for event in trained]
    assert len({result.reward for result in bare}) == 6
    driver, service = memory.at(time.monotonic())
    # The service of the local executor lives in the driver.
    assert driver == pytest.approx(service, rel=0.1)
    assert driver > 2**20


def test_a_search_whose_candidates_fail_measures_nothing(tmp_path):
    overrides = {
        "space": {"name": f"{TOY}:ToySpace"},
        "proxy": {"name": f"{TOY}:ToyProxy", "raises": [1]},
        "search": {"budget": "4", "executor": "local"},
    }
    with pytest.raises(InputError, match="every candidate must be trained"):
        run(load_recipe("demo", [overrides]), tmp_path / "run")
