import subprocess
import sys
from pathlib import Path

from benchmarks.controller_update import measure, rows, token_space

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "controller_update.py"


def test_random_search_comes_first_and_recipes_bring_their_settings():
    found = list(rows(["ppo", "evolution"], ["paper"]))
    assert [row.name for row in found] == ["random", "evolution", "ppo", "ppo of paper"]
    assert found[-1].controller == "ppo"
    assert found[-1].options["learning_rate"] == 1e-4


def test_updates_are_part_of_what_is_measured():
    row = next(row for row in rows(["ppo"], []) if row.name == "ppo")
    tokens = token_space()
    assert len(tokens.decisions) == 42
    small = row._replace(options={"batch": 3, "hidden": 8})
    times = measure(small, tokens, 6)
    assert len(times) == 6
    # The third and the sixth reward end a batch.
    assert min(times[2], times[5]) > max(times[1], times[3], times[4])


def test_the_script_says_whether_the_bound_is_held():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--candidates", "3", "--controllers", "random", "--recipes"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bound 50 ms a candidate: held by all" in done.stdout
