import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.proxy_gpu import Workload, summary
from benchmarks.resident_crops import BOXES, CLASSES

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "proxy_gpu.py"
SIZES = {
    "crop": 64,
    "crops": 10,
    "batch": 4,
    "iterations": 4,
    "width": 32,
    "backbone": "resnet18",
    "device": "cpu",
    "seed": 0,
}
# A machine with a GPU has torch; what it may lack must not be asked for.
LACKING = ("ray", "pycocotools", "yaml", "typer", "rich", "defusedxml", "matplotlib")
START = """
import runpy, sys
sys.modules.update(dict.fromkeys({lacking}))
sys.argv = {argv}
sys.path[0] = {folder!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments, expect=0):
    argv = [str(SCRIPT), *map(str, arguments)]
    for key, value in SIZES.items():
        if f"--{key}" not in argv:
            argv += [f"--{key}", str(value)]
    code = START.format(lacking=LACKING, argv=argv, folder=str(SCRIPT.parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stdout + done.stderr


def test_the_script_runs_without_ray_and_pycocotools_and_goes_on_where_it_ended(tmp_path):
    out = tmp_path / "rows.json"
    assert "1 candidates, 0 failed" in run("--architectures", 1, "--out", out)
    (first,) = json.loads(out.read_text())["rows"]
    assert first["first"]
    assert first["reward"] < 0
    printed = run("--architectures", 3, "--out", out)
    assert "3 candidates, 0 failed" in printed
    assert "not the thesis's workload (crop 64" in printed
    rows = json.loads(out.read_text())["rows"]
    assert rows[0] == first
    assert [row["first"] for row in rows] == [True, True, False]
    assert len({tuple(row["tokens"]) for row in rows}) == 3
    assert "other settings (batch)" in run("--batch", 5, "--out", out, expect=1)
    assert json.loads(out.read_text())["rows"] == rows
    # No time left: nothing is begun.
    assert "3 candidates" in run("--architectures", 9, "--minutes", 0, "--out", out)


@pytest.fixture(scope="module")
def workload():
    return Workload(SIZES)


def test_the_records_are_those_of_the_proxy_task(workload):
    cache = workload.cache
    assert (cache.train, cache.val) == (7, 3)
    batch = cache.load(torch.arange(10))
    assert [tuple(level.shape[1:]) for level in batch.features] == [
        (64, 16, 16),
        (128, 8, 8),
        (256, 4, 4),
        (512, 2, 2),
    ]
    for level in batch.features:
        assert level.is_contiguous(memory_format=torch.channels_last)
        assert level.std(dim=0).mean() > 0.05
    labels = batch.targets.labels
    assert labels.max() < CLASSES
    for image in labels:
        assert 1 <= len(image[image >= 0].unique()) <= BOXES


def test_a_candidate_is_the_same_each_time_and_learns(workload):
    one, again = workload.measure(0), workload.measure(0)
    assert (one["halfway"], one["reward"]) == (again["halfway"], again["reward"])
    assert one["reward"] > one["halfway"]


def test_the_profile_names_operations(workload):
    assert "convolution" in workload.profile()


def test_the_median_leaves_out_what_failed_and_what_came_first():
    settings = {"crop": 384, "batch": 200, "iterations": 300, "width": 64, "backbone": "resnet50"}
    rows = [
        {
            "seconds": s,
            "peak_gib": s,
            "first": s == 90,
            "phases": {"training: forward": s / 2, "training: reading": 1},
        }
        for s in (90.0, 10.0, 34.0, 50.0)
    ]
    rows.append({"seconds": 1.0, "peak_gib": 99.0, "first": False, "failed": "DivergedLossError: nan"})
    text = summary(rows, settings)
    assert "4 candidates, 1 failed" in text
    assert "median 34.00 s a candidate" in text
    assert "2.00 of the goal" in text
    assert "peak memory 90.0 GiB" in text
    assert "0.500 of the candidates' seconds in the network" in text
