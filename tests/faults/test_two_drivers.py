"""Two searches that begin in the same millisecond: each run has one driver, and keeps the recipe of that one."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import document
from conftest import MakeUndisturbed
from faulty_plugin import read_notes
from ray.cluster_utils import Cluster
from same_moment import Ended, SameMoment
from tally import Tally

from controllers.service.journal import Journal

WAYS = ("unnamed", "one name", "resumed")


@pytest.fixture(scope="module")
def local() -> Iterator[SameMoment]:
    with SameMoment("nasperc.search.local_executor") as starter:
        yield starter


def recipe_file(home: Path, name: str, recipe: dict[str, Any]) -> str:
    home.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(yaml.safe_dump(recipe))
    return name


def check_pair(ended: list[Ended], runs: list[Path], *, separate: bool) -> None:
    """All that were not refused have ended well, and every run has the recipe that its journal began with."""
    said = [each.said for each in ended]
    assert not any("Traceback" in each for each in said), said
    codes = sorted(each.code for each in ended)
    assert codes == ([0, 0] if separate else [0, 2]), said
    if not separate:
        winner, refused = sorted(ended, key=lambda each: each.code)
        # By name, or since the other one has ended already.
        assert f"process {winner.pid} on" in refused.said or "a folder of its own" in refused.said, said
    assert len(runs) == (2 if separate else 1)
    for run in runs:
        kept = yaml.safe_load((run / "recipe.yaml").read_text())
        start = Journal.read(run / "journal.jsonl")[0]
        assert kept["seed"] == start["plan"]["seed"]


def begin_two(
    starter: SameMoment,
    home: Path,
    way: str,
    terms: dict[str, Any],
    tally: Tally,
    undisturbed: MakeUndisturbed,
    held: tuple[int, ...] = (),
) -> None:
    """One pair; seeds differ, so that a recipe tells whose it is."""
    recipe = document(home / "notes", {"budget": "4", **terms}, seconds=0.02)
    files = [recipe_file(home, f"{seed}.yaml", {**recipe, "seed": seed}) for seed in (3, 4)]
    interruptions, runs_before = [], home / "runs"
    if way == "resumed":
        # One that ended after four candidates of eight.
        whole = undisturbed({**recipe, "search": {**recipe["search"], "budget": "8"}})
        shutil.copytree(whole, runs_before / "run")
        shutil.rmtree(whole)
        journal = runs_before / "run" / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[: len(lines) // 2]))
        for ranking in ("top10.json", "pareto.json"):
            # They name what the shortened journal does not hold.
            (journal.parent / ranking).unlink(missing_ok=True)
        kept = yaml.safe_load((runs_before / "run" / "recipe.yaml").read_text())
        kept["search"].update(executor=terms["executor"], ray_address=terms.get("ray_address"))
        kept["proxy"] = {**recipe["proxy"], "seconds": kept["proxy"]["seconds"]}
        (runs_before / "run" / "recipe.yaml").write_text(yaml.safe_dump(kept))
        interruptions.append(Journal.read(journal))
        commands = [["search", "--resume", "runs/run"]] * 2
    elif way == "one name":
        commands = [["search", "--recipe", file, "--name", "run"] for file in files]
    else:
        commands = [["search", "--recipe", file] for file in files]
    ended = starter.run(home, commands)
    tally.fault(f"two drivers at once ({terms['executor']})")
    runs = sorted(path for path in runs_before.iterdir() if path.name != "prepared")
    if way == "resumed" and [each.code for each in ended] == [0, 0]:
        # The second one has found a run that had ended.
        ended[1] = ended[1]._replace(code=2, said="a folder of its own")
    check_pair(ended, runs, separate=way == "unnamed")
    for run in runs:
        # Notes of two runs are in one file.
        notes = read_notes(home / "notes" / "evaluations.jsonl") if len(runs) == 1 else []
        tally.ended(run, interruptions, notes)


@pytest.mark.parametrize("pairs", [6, pytest.param(50, marks=pytest.mark.faults)])
def test_two_drivers_at_once(
    pairs: int,
    tmp_path: Path,
    local: SameMoment,
    tally: Tally,
    moments: random.Random,
    undisturbed: MakeUndisturbed,
) -> None:
    ways = [WAYS[number % len(WAYS)] for number in range(pairs)]
    moments.shuffle(ways)
    for number, way in enumerate(ways):
        begin_two(local, tmp_path / str(number), way, {"executor": "local"}, tally, undisturbed)


@pytest.mark.ray
@pytest.mark.parametrize("pairs", [1, pytest.param(50, marks=pytest.mark.faults)])
def test_two_drivers_at_once_on_ray(
    pairs: int, tmp_path: Path, head: Cluster, tally: Tally, undisturbed: MakeUndisturbed
) -> None:
    """The service, which writes, is another process than the driver."""
    terms = {"executor": "ray", "ray_address": head.address, "workers": 1}
    with SameMoment("nasperc.search.ray_executor") as starter:
        for number in range(pairs):
            way = ("one name", "resumed")[number % 2]
            begin_two(starter, tmp_path / str(number), way, terms, tally, undisturbed)
