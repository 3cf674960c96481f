import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.long_run import Memory, MemoryOnTheWay, children, growth, memory
from benchmarks.search_overhead import NothingProxy, run
from nasperc.recipe.reading import load_recipe

OVERHEAD = Path(__file__).parents[2] / "benchmarks" / "search_overhead.py"


def test_memory_is_that_of_the_process():
    before = memory(os.getpid())
    held = b"x" * 50_000_000
    after = memory(os.getpid())
    assert after.private - before.private >= len(held) * 0.9
    assert after.pss - before.pss >= len(held) * 0.9
    assert after.private <= after.pss


def test_children_are_found_two_floors_down():
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    for _ in range(200):
        if len(children(child.pid)) == 1:
            break
        time.sleep(0.05)
    (grandchild,) = children(child.pid)
    assert {child.pid, grandchild} <= set(children(os.getpid()))
    child.communicate(b"\n")


def test_growth_is_from_the_first_sample_to_the_last():
    samples = [(10, Memory(100, 0)), (20, Memory(500, 0)), (30, Memory(110, 0))]
    assert abs(growth(samples) - 0.1) < 1e-12


def test_driver_and_service_are_sampled_on_the_way(tmp_path):
    overrides = {
        "search": {"budget": "60", "executor": "local"},
        "proxy": {"name": f"{OVERHEAD}:{NothingProxy.__name__}"},
        "controller": {"name": "random"},
    }
    recipe = load_recipe(str(OVERHEAD.with_suffix(".yaml")), [overrides])
    with MemoryOnTheWay(tmp_path / "run" / "journal.jsonl", [10, 60]) as way:
        run(recipe, tmp_path / "run")
        # It looks every fifth of a second, and this search may be over by then.
        time.sleep(1.0)
    # In one process here: whatever is counted last names it.
    (samples,) = way.samples.values()
    assert samples[-1][0] == 60
    assert samples[-1][1].pss > 2**20
