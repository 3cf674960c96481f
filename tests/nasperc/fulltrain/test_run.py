import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from nasperc.assembly.detector import Baseline
from nasperc.errors import InputError
from nasperc.evaluation.cost import Cost
from nasperc.fulltrain import entry_run
from nasperc.fulltrain.run import fulltrain, next_command
from nasperc.fulltrain.selection import FullTrainingSelector, select_by_full_training
from nasperc.recipe.reading import parse_recipe
from nasperc.search.top10 import read_top10
from nasperc.tasks.detection import training as detection_training
from nasperc.tasks.detection.trained import load_detector
from nasperc.tasks.detection.training import DetectionTraining
from nasperc.tasks.row import Row
from nasperc.tasks.trained import EvaluateOptions
from nasperc.training.checkpoint import load_checkpoint


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=80)


@pytest.fixture
def fixed_costs(monkeypatch):
    """Measuring costs is most of the time of a tiny training; only one test here is about them."""
    cost = Cost(flops=100, params_total=10, params_trainable=10)
    monkeypatch.setattr(detection_training, "measure_cost", lambda model, size: cost)
    monkeypatch.setattr(detection_training, "baseline_costs", lambda *_: {Baseline(64, 64, 1): 100})


def said(console):
    return console.file.getvalue()


def test_entries_beside_the_baseline(top10, console, data):
    results = fulltrain(top10, console=console)
    folder = top10.parent / "fulltrain"
    assert sorted(row.name for row in results.rows) == ["FPN-FCOS", "rank 1", "rank 2"]
    assert all(row.status == "done" and row.iterations == 2 for row in results.rows)
    assert all(set(row.metrics) == {"val", "test"} for row in results.rows)
    by_name = {row.name: row for row in results.rows}
    assert by_name["FPN-FCOS"].flops >= 0.95 * by_name["rank 1"].flops
    assert (folder / "results.md").exists()
    for name in ("rank01", "rank02"):
        assert (folder / name / "log.csv").read_text().count("\n") == 3
        assert json.loads((folder / name / "metrics.json").read_text())["status"] == "done"
    assert f"nasperc export architecture {top10} --rank" in said(console)
    # The checkpoint alone gives the numbers of the table again.
    report = load_detector(folder / "rank01" / "checkpoint.pt").evaluate(data, EvaluateOptions())
    assert " test, " in report.tables[0].title
    assert report.values == by_name["rank 1"].metrics["test"]

    for row in results.rows:
        assert 0 < row.latency["fastest_s"] <= row.latency["median_s"] <= row.latency["slowest_s"]

    # An older file has no latency: it is measured. Otherwise, typed again, nothing is trained or measured.
    older = folder / "rank02" / "metrics.json"
    content = json.loads(older.read_text())
    del content["latency"]
    older.write_text(json.dumps(content))
    before = (folder / "rank01" / "checkpoint.pt").stat().st_mtime_ns
    again = fulltrain(top10, console=console)
    assert (folder / "rank01" / "checkpoint.pt").stat().st_mtime_ns == before
    assert [(row.name, row.metrics) for row in again.rows] == [
        (row.name, row.metrics) for row in results.rows
    ]
    kept = {row.name: row.latency for row in again.rows}
    assert kept["rank 1"] == by_name["rank 1"].latency
    assert kept["rank 2"] is not None
    assert kept["rank 2"] != by_name["rank 2"].latency
    assert json.loads(older.read_text())["latency"] == kept["rank 2"]


def test_images_of_every_split_are_looked_at_before_anything_is_trained(
    top10, console, data, tmp_path, fixed_costs, monkeypatch
):
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    exif, last = Image.Exif(), moved / "test" / "000006.jpg"
    exif[0x0112] = 3
    with Image.open(last) as picture:
        picture.save(last, exif=exif.tobytes())
    monkeypatch.setattr(DetectionTraining, "build", lambda *_: pytest.fail("something was built"))
    with pytest.raises(InputError, match="orientation 3"):
        fulltrain(top10, overrides=[{"data": {"path": str(moved), "exif": "refuse"}}], console=console)


def test_an_interrupted_one_continues_exactly(top10, console, fixed_costs, monkeypatch):
    straight = fulltrain(top10, top=1, folder=top10.parent / "straight", console=console)
    real_train = entry_run.train

    def interrupted(*args, on_step, **kwargs):
        def stop(step, losses):
            on_step(step, losses)
            if step == 2:
                raise KeyboardInterrupt

        return real_train(*args, on_step=stop, **kwargs)

    monkeypatch.setattr(entry_run, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fulltrain(top10, top=1, console=console)
    assert load_checkpoint(top10.parent / "fulltrain" / "rank01" / "checkpoint.pt")["step"] == 1
    monkeypatch.setattr(entry_run, "train", real_train)
    continued = fulltrain(top10, top=1, console=console)
    assert {r.name: r.metrics for r in continued.rows} == {r.name: r.metrics for r in straight.rows}
    a, b = (
        load_checkpoint(top10.parent / name / "rank01" / "checkpoint.pt")
        for name in ("straight", "fulltrain")
    )
    assert all((a["model"][key] == b["model"][key]).all() for key in a["model"])


def test_images_that_change_during_a_training_are_named_and_its_checkpoint_is_put_aside(
    top10, console, data, tmp_path, fixed_costs, monkeypatch
):
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    first, real_train = min((moved / "train").iterdir()), entry_run.train

    def while_somebody_writes(*args, **kwargs):
        with Image.open(first) as picture:
            Image.new("RGB", picture.size).save(first)
        return real_train(*args, **kwargs)

    monkeypatch.setattr(entry_run, "train", while_somebody_writes)
    with pytest.raises(InputError, match=rf"must not change while.*{first.name}.*changed-images"):
        fulltrain(top10, top=1, overrides=[{"data": {"path": str(moved)}}], console=console)
    row = top10.parent / "fulltrain" / "rank01"
    assert sorted(path.name for path in row.iterdir()) == ["checkpoint.changed-images", "log.csv"]


def test_every_baseline_that_the_recipe_names(top10, console, monkeypatch, data):
    cost = Cost(flops=100, params_total=10, params_trainable=10)
    monkeypatch.setattr(detection_training, "measure_cost", lambda model, size: cost)
    monkeypatch.setattr(
        detection_training, "baseline_costs", lambda *_: {replace(_[-1], fpn_width=32, head_width=32): 100}
    )
    settings = [
        "baselines=[fpn-retinanet, deform-fpn-fcos]",
        "fulltrain.iterations=24",
        "fulltrain.optimizer=adam",
        "fulltrain.learning_rate=0.002",
        "fulltrain.warmup_iterations=2",
        "fulltrain.sizes_of_interest_scale=0.1",
    ]
    results = fulltrain(top10, top=1, settings=settings, console=console)
    assert {row.name for row in results.rows} == {"rank 1", "FPN-RetinaNet", "DeformFPN-FCOS"}
    assert all(row.status == "done" for row in results.rows), [row.reason for row in results.rows]
    for name, place in (("FPN-RetinaNet", "fpn-retinanet"), ("DeformFPN-FCOS", "deform-fpn-fcos")):
        folder = top10.parent / "fulltrain" / f"{place}-32-32x4"
        with (folder / "log.csv").open() as file:
            rows = list(csv.DictReader(file))
        totals = [sum(float(v) for k, v in row.items() if k != "iteration") for row in rows]
        assert sum(totals[-6:]) < 0.85 * sum(totals[:6])
        report = load_detector(folder / "checkpoint.pt").evaluate(data, EvaluateOptions())
        by_name = {row.name: row.metrics for row in results.rows}
        assert report.values == by_name[name]["test"]
    assert (
        load_detector(top10.parent / "fulltrain/fpn-retinanet-32-32x4/checkpoint.pt").model.anchor_scale
        == 0.1
    )


def test_a_failing_entry_does_not_stop_the_others(top10, console, fixed_costs, monkeypatch):
    real_train = entry_run.train

    def failing(run, **kwargs):
        if run.checkpoint.parent.name == "rank01":
            raise RuntimeError("out of memory\nand a long tail")
        return real_train(run, **kwargs)

    monkeypatch.setattr(entry_run, "train", failing)
    results = fulltrain(top10, console=console)
    failed = results.rows[-1]
    assert (failed.name, failed.status) == ("rank 1", "failed")
    assert failed.reason.startswith("RuntimeError: out of memory (")
    assert "and a long tail" in (top10.parent / "fulltrain" / "rank01" / "error.txt").read_text()
    assert results.best.name == "rank 2"


def test_divergence_is_recorded(top10, console, fixed_costs):
    settings = ["fulltrain.learning_rate=1.0e+30", "fulltrain.warmup_iterations=0", "fulltrain.iterations=3"]
    with pytest.raises(InputError, match="at least one entry must train"):
        fulltrain(top10, top=1, settings=settings, console=console)
    rows = json.loads((top10.parent / "fulltrain" / "results.json").read_text())["rows"]
    assert {row["status"] for row in rows} == {"failed"}
    assert "Lower learning_rate" in rows[0]["reason"]


def test_other_widths_have_folders_of_their_own(top10, console, fixed_costs):
    fulltrain(top10, top=1, width="32-64", settings=["fulltrain.iterations=1"], console=console)
    checkpoint = load_checkpoint(top10.parent / "fulltrain" / "rank01-32-64" / "checkpoint.pt")
    assert checkpoint["decoder"]["widths"] == {"fpn": 32, "head": 64}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"task": "unheard-of"},
            r"a task must be one of blendmask, .*detection, .*fcos, instances, .*video, video_segmentation",
        ),
        ({"top": 3}, "--top must lie between"),
        ({"width": "100"}, "multiple of 32"),
        ({"settings": ["fulltrain.speed=1"]}, "a recipe key must be known"),
        ({"settings": ["data.val_split=dev", "data.test_split=none"]}, "needs a split to measure on"),
        ({"overrides": [{"data": {"path": "/nowhere"}}]}, "must be a folder"),
    ],
)
def test_bad_input(top10, console, fixed_costs, arguments, message):
    with pytest.raises(InputError, match=message):
        fulltrain(top10, console=console, **arguments)
    assert not (top10.parent / "fulltrain" / "rank01").exists()


def test_other_classes_than_in_the_search(top10, console, fixed_costs):
    content = json.loads(top10.read_text())
    content["data"]["classes"] = ["something", "else"]
    top10.write_text(json.dumps(content))
    with pytest.raises(InputError, match="classes that it had in the search"):
        fulltrain(top10, console=console)


def test_other_backbone_weights_than_in_the_search(top10, console, fixed_costs, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"others")
    content = json.loads(top10.read_text())
    content["recipe"]["model"]["backbone"] |= {"weights": str(weights), "normalisation": "imagenet"}
    content["weights"]["sha256"] = "0" * 64
    top10.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"those that the search had: SHA-256 0{16}, but got \w{16}.*weights\.pth"
    ):
        fulltrain(top10, console=console)
    # What is named for this training may be anything; here it is no weights at all.
    other = tmp_path / "other.pth"
    other.write_bytes(b"others")
    backbone = {"weights": str(other), "normalisation": "imagenet"}
    with pytest.raises(InputError, match=r"must be a readable PyTorch file.*other\.pth"):
        fulltrain(top10, console=console, overrides=[{"model": {"backbone": backbone}}])


def test_the_entry_with_the_best_ap_is_selected(top10, console, fixed_costs, monkeypatch):
    measured = detection_training.coco_ap
    # val and test, of one entry after the other: val selects. The baseline, last, may not be chosen.
    aps = iter((0.2, 0.8, 0.4, 0.1, 0.9, 0.9))
    monkeypatch.setattr(
        detection_training, "coco_ap", lambda *arguments: replace(measured(*arguments), ap=next(aps))
    )
    candidates = top10.with_name("select-fpn.json")
    top10.rename(candidates)
    selection = select_by_full_training(candidates, {"fpn": 64, "head": 64}, console=console)
    entries = read_top10(candidates).entries
    assert selection.scores == {entries[0].hash: 0.2, entries[1].hash: 0.4}
    assert selection.hash == entries[1].hash
    assert (candidates.parent / "select-fpn" / "results.json").exists()


@pytest.fixture
def without_objects(data, tmp_path):
    """The data set with nothing annotated in some splits."""

    def make(*splits):
        folder = shutil.copytree(data, tmp_path / "empty")
        for split in splits:
            file = folder / "annotations" / f"instances_{split}.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
        return {"data": {"path": str(folder)}}

    return make


def test_splits_without_objects_have_no_ap(top10, console, fixed_costs, without_objects):
    results = fulltrain(top10, overrides=[without_objects("val", "test")], console=console)
    assert [row.name for row in results.rows] == ["rank 1", "rank 2", "FPN-FCOS"]
    assert all(row.metrics[split]["ap"] is None for row in results.rows for split in ("val", "test"))
    printed = " ".join(said(console).split())
    assert "AP on val is undefined (shown as -): it has no object that counts; rows stand in the" in printed
    assert "AP on test is undefined (shown as -): it has no object that counts" in printed
    assert "rank 1: done, AP -" in printed
    assert "-100" not in printed


def test_nothing_to_learn_is_refused(top10, console, fixed_costs, without_objects):
    with pytest.raises(InputError, match="at least one object to learn"):
        fulltrain(top10, overrides=[without_objects("train")], console=console)


def test_a_val_split_without_objects_cannot_select(recipe, console, tmp_path, without_objects):
    selector = FullTrainingSelector(console)
    selector.check(recipe, tmp_path)
    empty = parse_recipe({**recipe.to_dict(), **without_objects("val")}, where="test")
    with pytest.raises(InputError, match="AP must be defined to select by it, but got val"):
        selector.check(empty, tmp_path)


def test_what_to_type_next_names_the_rank_or_the_checkpoint():
    best = Row("rank 2", "done", 2, "ab", {"fpn": 64}, None, 0.5, None, 1, (8, 8))
    arch, checkpoint = Path("run/top10.json"), Path("out/rank02/checkpoint.pt")
    plain = "nasperc export architecture run/top10.json --rank 2"
    assert next_command(best, arch, checkpoint, elsewhere=False) == plain
    assert next_command(best, arch, checkpoint, elsewhere=True) == f"{plain} --checkpoint {checkpoint}"
    drawn = replace(best, name="random 1", rank=None)
    assert (
        next_command(drawn, arch, checkpoint, elsewhere=False) == f"nasperc evaluate {checkpoint} --data DIR"
    )
