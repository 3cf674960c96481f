"""Segmenters on what a search of detectors found: trained, measured, drawn, by the commands' own functions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from rich.console import Console

from nasperc.assembly.detector import Baseline
from nasperc.data.formats import open_dataset
from nasperc.errors import InputError
from nasperc.evaluation.cost import measure_cost
from nasperc.fulltrain.run import _printed, fulltrain
from nasperc.recipe.reading import load_recipe
from nasperc.tasks.detection import training as detection_training
from nasperc.tasks.instances.models import MODELS
from nasperc.tasks.instances.tables import BOXES, MaskTables, mask_metrics
from nasperc.tasks.instances.trained import TrainedInstances
from nasperc.tasks.lookup import load_trained, task_section
from nasperc.tasks.presentation import percent
from nasperc.tasks.trained import EvaluateOptions, ExportOptions, PredictOptions


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture
def folder(request: pytest.FixtureRequest, top10: Path, console: Console) -> Path:
    """Of the results, of BlendMask where a test does not say what of."""
    model = getattr(request, "param", "blendmask")
    overrides = [{"baselines": [], "origin": "table_4_9:R-50"}]
    fulltrain(top10, top=1, task=model, overrides=overrides, console=console)
    return top10.parent / f"fulltrain-{model}"


@pytest.mark.parametrize("folder", MODELS, indirect=True)
def test_a_found_decoder_becomes_a_segmenter(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = folder / "rank01" / "checkpoint.pt"
    row = json.loads((folder / "rank01" / "metrics.json").read_text())
    assert {"ap", "per_class", BOXES} <= row["metrics"]["val"].keys()
    header = (folder / "rank01" / "log.csv").read_text().splitlines()[0]
    assert header.startswith("iteration,classification,box,centerness,mask")
    content = torch.load(checkpoint, weights_only=True)
    assert set(content["segmenter"]) & set(MODELS) == {content["task"]}
    trained = load_trained(checkpoint)
    assert isinstance(trained, TrainedInstances)
    assert trained.searched is not None
    # The same numbers as at the end of the training, in a process that knows the checkpoint alone.
    report = trained.evaluate(data, EvaluateOptions(split="val", per_class=True))
    assert report.values == row["metrics"]["val"]
    assert [table.header for table in report.tables] == [
        ["metric", "masks", "boxes"],
        ["class", "AP of masks", "AP of boxes"],
    ]
    image = next(data.rglob("*.jpg"))
    done = trained.predict(checkpoint, [image], tmp_path / "out", PredictOptions(threshold=0.0))
    assert done.unreadable == []
    (found,) = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    size = np.asarray(Image.open(image)).shape[:2]
    for each in found["objects"]:
        assert coco_mask.decode(each["segmentation"]).shape == size
    with pytest.raises(InputError, match="sequence"):
        trained.require_own(EvaluateOptions(sequence_length=3))
    with pytest.raises(InputError, match="dense"):
        trained.require_own(ExportOptions(dense=True))


def test_a_network_of_one_class_is_measured_by_its_checkpoint_alone(
    top10: Path, data: Path, console: Console
) -> None:
    content = json.loads(top10.read_text())
    content["data"]["classes"] = ["object"]
    content["recipe"]["data"]["one_class"] = True
    top10.write_text(json.dumps(content))
    results = fulltrain(top10, top=1, task="blendmask", overrides=[{"baselines": []}], console=console)
    trained = load_trained(top10.parent / "fulltrain-blendmask" / "rank01" / "checkpoint.pt")
    assert trained.classes == ("object",)
    report = trained.evaluate(data, EvaluateOptions(split="val"))
    assert report.values == results.rows[0].metrics["val"]


def test_a_baseline_is_named_as_the_segmenter_that_it_is(
    top10: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection_training, "baseline_costs", lambda *_: {Baseline(64, 64, 1): 100})
    results = fulltrain(top10, top=1, task="blendmask", console=console)
    assert {row.name for row in results.rows} == {"rank 1", "BlendMask (FPN-FCOS)"}
    # A folder of when it was called FPN-FCOS is finished, under today's name.
    folder = top10.parent / "fulltrain-blendmask" / "fpn-fcos-64-64x1"
    row = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**row, "name": "FPN-FCOS"}))
    trained = (folder / "checkpoint.pt").stat().st_mtime_ns
    again = fulltrain(top10, top=1, task="blendmask", console=console)
    assert (folder / "checkpoint.pt").stat().st_mtime_ns == trained
    assert json.loads((folder / "metrics.json").read_text()) == row
    assert {row.name for row in again.rows} == {"rank 1", "BlendMask (FPN-FCOS)"}


def test_results_have_the_data_set_s_own_ids_and_other_annotations_are_measured(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    trained = load_trained(folder / "rank01" / "checkpoint.pt")
    (annotations,) = (data / "annotations").glob("*val*.json")
    content = json.loads(annotations.read_text())
    # Other category ids, and of one image's objects none is left.
    for entry in (*content["categories"], *content["annotations"]):
        key = "category_id" if "category_id" in entry else "id"
        entry[key] += 40
    first = content["images"][0]["id"]
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] != first]
    (tmp_path / "other.json").write_text(json.dumps(content))
    options = EvaluateOptions(
        split="val", annotations=tmp_path / "other.json", results=tmp_path / "results.json"
    )
    report = trained.evaluate(data, options)
    results = json.loads((tmp_path / "results.json").read_text())
    assert {each["category_id"] for each in results} <= {each["id"] for each in content["categories"]}
    assert all({"segmentation", "bbox", "score", "image_id"} <= each.keys() for each in results)
    counted = open_dataset(data, "val", masks=True, annotations=tmp_path / "other.json")
    assert counted.objects() == len(content["annotations"])
    assert report.values.keys() == trained.evaluate(data, EvaluateOptions(split="val")).values.keys()


def test_the_thesis_is_shown_below_what_was_measured(folder: Path) -> None:
    (rank01,) = json.loads((folder / "results.json").read_text())["rows"]
    measured = rank01["metrics"]["test"]
    text = (folder / "results.md").read_text()
    assert "mask AP on test, above what the thesis prints for COCO: Table 4.9 - BlendMask-RT" in text
    header, _, first, *rows = text.split("Table 4.9")[1].splitlines()[2:]
    assert header == "| row | box AP | AP | AP50 | AP75 |"
    values = (measured[BOXES]["ap"], measured["ap"], measured["ap50"], measured["ap75"])
    assert first == "| " + " | ".join([rank01["name"], *map(percent, values)]) + " |"
    assert "| thesis, this recipe: R-50 | 39.3 | 35.1 | 55.5 | 37.1 |" in rows


def test_the_thesis_is_not_shown_beside_another_task() -> None:
    """Its AP would be that of masks, the one measured of boxes."""
    assert _printed(load_recipe("table_4_9:R-50")) is not None
    assert _printed(load_recipe("table_4_9:R-50", [{"task": {"name": "detection"}}])) is None
    assert _printed(load_recipe("table_7_2:FPN-FCOS@256 R-50")) is not None
    assert _printed(load_recipe("table_7_2:FPN-FCOS@256 R-50", [{"task": task_section("fcos")}])) is not None
    assert _printed(load_recipe("table_7_2:FPN-FCOS@256 R-50", [{"task": task_section("blendmask")}])) is None


def test_costs_count_the_masks(folder: Path) -> None:
    row = json.loads((folder / "rank01" / "metrics.json").read_text())
    trained = load_trained(folder / "rank01" / "checkpoint.pt")
    alone = measure_cost(trained.model, tuple(row["cost_size"]))
    assert row["flops"] >= alone.flops
    assert row["latency"]["median_s"] > 0


def test_the_truth_has_an_ap_of_one_and_tables_show_both(data: Path) -> None:
    dataset = open_dataset(data, "val", masks=True)
    truth = dataset.coco_ground_truth()["annotations"]
    found = [
        {key: each[key] for key in ("image_id", "category_id", "bbox", "segmentation")} for each in truth
    ]
    metrics = mask_metrics(dataset, [{**each, "score": 1.0} for each in found])
    assert metrics["ap"] == metrics[BOXES]["ap"] == pytest.approx(1.0)
    assert MaskTables().measured(metrics) == metrics
    assert MaskTables().measured({**metrics, BOXES: {}}) is None
    assert MaskTables().measured({"ap": 0.5}) is None


def test_a_decoder_with_anchors_has_no_masks(top10: Path, console: Console) -> None:
    with pytest.raises(InputError, match="needs an FCOS head, but got fpn-retinanet"):
        fulltrain(
            top10, top=1, task="instances", overrides=[{"baselines": ["fpn-retinanet"]}], console=console
        )


def test_an_edited_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    content = torch.load(folder / "rank01" / "checkpoint.pt", weights_only=True)
    content["segmenter"]["blendmask"]["bases"] = 5
    torch.save(content, tmp_path / "edited.pt")
    with pytest.raises(InputError, match="fit the network"):
        load_trained(tmp_path / "edited.pt")
