import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.controllers import first_at_most, regrets
from benchmarks.known_scores import HiddenScore, TableProblem, Trace, simulate
from controllers.drawing import draw
from controllers.random_search import RandomController, RandomRecipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "controllers.py"


@pytest.fixture
def table(tmp_path):
    """27 rows; the best reward is 6, its test score 16, the best test score 40."""
    rows = [f"{a}{b}{c},{a + b + c},{40 if a + b + c == 0 else 10 + a + b + c}"
            for a in range(3) for b in range(3) for c in range(3)]  # fmt: skip
    file = tmp_path / "table.csv"
    file.write_text("\n".join(["tokens,signal,test", *rows]))
    return file


def test_known_architectures_are_drawn_again(table):
    problem = TableProblem(table, None)
    trace = simulate(RandomController(problem.tokens, RandomRecipe(), 0), problem, 27)
    assert len(trace.rewards) == 27
    assert sorted(trace.rewards) == sorted(row[0] for row in problem._scores.values())
    assert trace.replays > 0
    assert not trace.converged
    assert problem.best() == (6.0, 40.0)


def test_500_replays_in_a_row_end_a_run(table):
    problem = TableProblem(table, None)
    trace = simulate(RandomController(problem.tokens, RandomRecipe(), 0), problem, 28)
    assert trace.converged
    assert len(trace.rewards) == 27
    assert trace.replays >= 500


def test_hidden_scores_are_standardised_fixed_and_of_the_network():
    problem, again, other = HiddenScore(3), HiddenScore(3), HiddenScore(4)
    rng = np.random.default_rng(5)
    drawn = [draw(problem.tokens, rng) for _ in range(400)]
    scores = [problem.scores(problem.tokens.canonical(tokens))[0] for tokens in drawn]
    assert np.mean(scores) == pytest.approx(0, abs=0.2)
    assert np.std(scores) == pytest.approx(1, abs=0.15)
    canonical = [problem.tokens.canonical(tokens) for tokens in drawn[:20]]
    assert [again.scores(tokens)[0] for tokens in canonical] == scores[:20]
    assert [other.scores(tokens)[0] for tokens in canonical] != scores[:20]


def run(*arguments):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_prints_regrets_and_goes_on_where_it_ended(table, tmp_path):
    options = ["--table", table, "--controllers", "random", "--seeds", 2, "--out", tmp_path / "runs"]
    first = run(*options, "--budget", 4)
    assert "| observed regret | @4 |" in first
    assert "test regret (test)" in first
    files = sorted((tmp_path / "runs").iterdir())
    assert len(files) == 2
    # Whoever has seen all rows has regret 0; its test regret is 40 - 16.
    last = run(*options, "--budget", 27)
    assert "| random | 0.000 (0.00–0.00) |" in last
    assert "| random | 24.000 (24.00–24.00) |" in last
    assert sorted((tmp_path / "runs").iterdir()) == files
    before = [file.stat().st_mtime_ns for file in files]
    assert run(*options, "--budget", 27) == last
    assert [file.stat().st_mtime_ns for file in files] == before


def test_regrets_follow_the_best_reward_so_far():
    trace = Trace(5, [1.0, 3.0, 2.0], [10.0, 5.0, 20.0], 500, True, 1.0)
    observed, test = regrets(trace, (4.0, 30.0), 5)
    assert observed.tolist() == [3, 1, 1, 1, 1]
    assert test.tolist() == [20, 25, 25, 25, 25]
    assert first_at_most(observed, 1.0) == 2
    assert first_at_most(observed, 0.5) is None
