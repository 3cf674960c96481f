"""Two full trainings of one run that begin in the same millisecond: one of them trains, the other is refused."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from same_moment import SameMoment
from tally import Tally
from top10_file import write_top10

from nasperc.data.formats import open_dataset
from nasperc.data.synthetic import write_synthetic
from nasperc.recipe.reading import parse_recipe
from nasperc.training.checkpoint import load_checkpoint


@pytest.fixture
def top10(tmp_path: Path) -> Path:
    data = write_synthetic(tmp_path / "data", images={"train": 4, "val": 2}, size=(64, 64), formats=("coco",))
    training = {
        "iterations": 4,
        "batch_size": 2,
        "short_sides": [64],
        "max_long_side": 64,
        "test_short_side": 64,
        "checkpoint_every": 1,
    }
    recipe = {
        "data": {"path": str(data), "test_split": "none"},
        "model": {"backbone": {"width_mult": 0.1}},
        "fulltrain": training,
        "baselines": [],
    }
    return write_top10(
        tmp_path / "runs" / "run",
        parse_recipe(recipe, where="test"),
        stage="head",
        task="detection",
        classes=open_dataset(data, "train").classes,
        widths={"fpn": 32, "head": 32},
        rewards=(-1.0, -2.0),
    )


@pytest.mark.parametrize("pairs", [1, pytest.param(8, marks=pytest.mark.faults)])
def test_one_trains_and_the_other_is_refused(pairs: int, top10: Path, tally: Tally) -> None:
    home, run = top10.parents[2], top10.parent
    with SameMoment("nasperc.fulltrain.run") as starter:
        for _ in range(pairs):
            commands = [["fulltrain", "--arch", "runs/run/top10.json", "--seed", seed] for seed in ("1", "2")]
            ended = starter.run(home, commands)
            tally.fault("two full trainings at once")
            said = [each.said for each in ended]
            assert not any("Traceback" in each for each in said), said
            assert sorted(each.code for each in ended) == [0, 2], said
            winner, refused = sorted(ended, key=lambda each: each.code)
            assert f"process {winner.pid} on {socket.gethostname()} holds it" in refused.said
            seed = 1 + ended.index(winner)
            results = json.loads((run / "fulltrain" / "results.json").read_text())
            assert results["recipe"]["seed"] == seed
            assert [row["status"] for row in results["rows"]] == ["done", "done"]
            for row in ("rank01", "rank02"):
                assert load_checkpoint(run / "fulltrain" / row / "checkpoint.pt")["seed"] == seed
            (run / "fulltrain").rename(run / f"fulltrain-{winner.pid}")


def test_links_in_its_folders_are_refused(top10: Path, tally: Tally) -> None:
    home, run = top10.parents[2], top10.parent
    precious = home / "elsewhere"
    precious.mkdir()
    (precious / "precious").write_text("precious")
    with SameMoment("nasperc.fulltrain.run") as starter:
        for place in ("fulltrain", "fulltrain/rank01", "fulltrain/fulltrain.lock"):
            link = run / place
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(precious if link.suffix == "" else precious / "precious")
            (ended,) = starter.run(home, [["fulltrain", "--arch", "runs/run/top10.json", "--top", "1"]])
            tally.fault("link in a run folder")
            assert ended.code == 2, ended.said
            assert f"runs/run/{place}" in ended.said
            assert "Remove the link" in ended.said
            link.unlink()
        # Files are replaced.
        (run / "fulltrain" / "rank01").mkdir()
        names = ("results.json", "results.md", "rank01/log.csv", "rank01/metrics.json", "rank01/error.txt")
        for name in names:
            (run / "fulltrain" / name).symlink_to(precious / "precious")
            tally.fault("link in a run folder")
        (ended,) = starter.run(home, [["fulltrain", "--arch", "runs/run/top10.json", "--top", "1"]])
        assert ended.code == 0, ended.said
    assert [path.name for path in precious.iterdir()] == ["precious"]
    assert (precious / "precious").read_text() == "precious"
    assert os.stat(precious / "precious").st_size == len("precious")
