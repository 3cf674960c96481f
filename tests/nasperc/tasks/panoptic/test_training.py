"""Panoptic networks on what a search of detectors found: trained, measured, drawn, by the commands' own functions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from top10_file import write_top10

from nasperc.data.dataset import DetectionDataset
from nasperc.data.panoptic_formats import open_panoptic
from nasperc.data.segment_map import read_segments
from nasperc.data.synthetic_panoptic import write_synthetic_panoptic
from nasperc.errors import InputError
from nasperc.evaluation.cost import measure_cost
from nasperc.evaluation.pq import PanopticEvaluation, PanopticMetrics
from nasperc.fulltrain.run import fulltrain
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.tasks.instances.models import MODELS
from nasperc.tasks.lookup import load_trained, recipe_task
from nasperc.tasks.panoptic.tables import PanopticTables
from nasperc.tasks.panoptic.trained import TrainedPanoptic
from nasperc.tasks.trained import EvaluateOptions, ExportOptions, PredictOptions

# An untrained network is sure of nothing, and images of 64 x 64 have little stuff.
TASK = {"merge": {"confidence": 0.0, "stuff_area": 10}, "semantic_branch": {"width": 32}}


@pytest.fixture(scope="module")
def stuff_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "panoptic"
    return write_synthetic_panoptic(folder, images={"train": 4, "val": 2, "test": 1}, size=(64, 64))


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    """What was printed of the training."""
    return io.StringIO()


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    recipe: Recipe,
    train_split: DetectionDataset,
    stuff_data: Path,
    said: io.StringIO,
) -> Path:
    """Of the results; trained once, and only read."""
    top10 = write_top10(
        tmp_path_factory.mktemp("runs") / "search-001",
        recipe,
        stage="head",
        task="detection",
        classes=train_split.classes,
        widths={"fpn": 64, "head": 64},
        rewards=(-1.0,),
    )
    overrides = [{"baselines": [], "data": {"path": str(stuff_data)}, "task": TASK}]
    fulltrain(top10, top=1, task="blendmask_panoptic", overrides=overrides, console=Console(file=said))
    return top10.parent / "fulltrain-blendmask_panoptic"


def test_a_found_decoder_becomes_a_panoptic_network(
    folder: Path, stuff_data: Path, said: io.StringIO
) -> None:
    checkpoint = folder / "rank01" / "checkpoint.pt"
    row = json.loads((folder / "rank01" / "metrics.json").read_text())
    header = (folder / "rank01" / "log.csv").read_text().splitlines()[0]
    assert header == "iteration,classification,box,centerness,mask,semantic,stuff"
    # Of the segmenters' sections the one that it is built from alone.
    content = torch.load(checkpoint, weights_only=True)
    assert set(content["panoptic"]) & set(MODELS) == {"blendmask"}
    trained = load_trained(checkpoint)
    assert isinstance(trained, TrainedPanoptic)
    assert trained.searched is not None
    assert trained.panoptic == open_panoptic(stuff_data, "train").panoptic
    # The same numbers as at the end of the training, in a process that knows the checkpoint alone.
    report = trained.evaluate(stuff_data, EvaluateOptions(split="val"))
    assert report.values == row["metrics"]["val"]
    assert {"pq", "sq_things", "rq_stuff", "per_class"} <= report.values.keys()
    assert [line[0] for line in report.tables[0].body] == ["all", "things", "stuff"]
    assert trained.evaluate(stuff_data, EvaluateOptions()).tables[0].title.endswith("test, 1 images")
    page = (folder / "results.md").read_text()
    assert "Ranked by PQ on val" in page
    assert "| row | PQ | SQ | RQ | PQ Th | SQ Th | RQ Th | PQ St | SQ St | RQ St |" in page
    assert "Panoptic quality on test" in said.getvalue()


def test_results_are_what_was_measured(folder: Path, stuff_data: Path, tmp_path: Path) -> None:
    trained = load_trained(folder / "rank01" / "checkpoint.pt")
    assert isinstance(trained, TrainedPanoptic)
    dataset = open_panoptic(stuff_data, "val")
    # It says of every pixel what most pixels are.
    pixels = torch.cat([dataset[index].semantic.flatten() for index in range(len(dataset))])
    with torch.no_grad():
        trained.model.branch.classifier.bias[torch.bincount(pixels[pixels < 255])[1:].argmax() + 1] = 50
    options = EvaluateOptions(split="val", results=tmp_path / "results")
    values = trained.evaluate(stuff_data, options).values
    assert values["pq_stuff"] > 0
    (file,) = (tmp_path / "results").glob("*.json")
    again = open_panoptic(stuff_data, "val", annotations=file)
    evaluation = PanopticEvaluation(len(dataset.panoptic.things), len(dataset.panoptic.stuff))
    for index in range(len(dataset)):
        found = again.truth(index, again[index])
        evaluation.add(found, dataset.truth(index, dataset[index]))
    assert evaluation.metrics(dataset.panoptic.names).as_dict() == values
    with pytest.raises(InputError, match="must be a new one"):
        trained.evaluate(stuff_data, options)


def test_images_are_segmented_and_drawn(folder: Path, stuff_data: Path, tmp_path: Path) -> None:
    trained = load_trained(folder / "rank01" / "checkpoint.pt")
    images = sorted((stuff_data / "val").glob("*.jpg"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    done = trained.predict(
        folder / "rank01/checkpoint.pt", [images[0], broken, images[1]], tmp_path / "out", PredictOptions()
    )
    assert (len(done.unreadable), done.inputs, len(done.lines)) == (1, 3, 3)
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    assert tuple(names.values()) == trained.panoptic.names
    assert len(content["unreadable"]) == 1
    for entry, annotation in zip(content["images"], content["annotations"], strict=True):
        assert entry["id"] == annotation["image_id"]
        ids = read_segments(tmp_path / "out" / "panoptic" / annotation["file_name"], (64, 64))
        listed = {each["id"]: each for each in annotation["segments_info"]}
        assert set(np.unique(ids)) - {0} == listed.keys()
        for number, each in listed.items():
            assert each["area"] == (ids == number).sum()
            assert each["category_id"] in names
        drawn = np.asarray(Image.open(tmp_path / "out" / entry["picture"]))
        assert drawn.shape == (64, 64, 3)
    with pytest.raises(InputError, match=r"must lie in 0\.\.1"):
        trained.predict(broken, [], tmp_path / "out", PredictOptions(threshold=2))


def test_options_of_others_are_refused(folder: Path) -> None:
    trained = load_trained(folder / "rank01" / "checkpoint.pt")
    with pytest.raises(InputError, match="sequence"):
        trained.require_own(EvaluateOptions(sequence_length=3))
    with pytest.raises(InputError, match="with-nms"):
        trained.require_own(ExportOptions(with_nms=True))
    with pytest.raises(InputError, match="exported files"):
        trained.exported(ExportOptions())


def test_costs_count_masks_and_branch(folder: Path) -> None:
    row = json.loads((folder / "rank01" / "metrics.json").read_text())
    trained = load_trained(folder / "rank01" / "checkpoint.pt")
    assert row["flops"] > measure_cost(trained.model, tuple(row["cost_size"])).flops
    assert row["latency"]["median_s"] > 0
    recipe = parse_recipe({"task": {"name": "panoptic"}, "cost": {"classes": 4, "stuff": 3}}, where="test")
    network = recipe_task(recipe).network(recipe, trained.searched, (64, 64))
    assert (network.model.things, network.model.stuff) == (4, 3)


def test_an_edited_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    content = torch.load(folder / "rank01" / "checkpoint.pt", weights_only=True)
    content["stuff"].append("clouds")
    torch.save(content, tmp_path / "edited.pt")
    with pytest.raises(InputError, match="fit the network"):
        load_trained(tmp_path / "edited.pt")
    del content["stuff"]
    torch.save(content, tmp_path / "edited.pt")
    with pytest.raises(InputError, match="stuff"):
        load_trained(tmp_path / "edited.pt")


def test_without_a_data_set_the_synthetic_one_has_stuff(
    top10: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(top10.read_text())
    content["recipe"]["data"]["path"] = None
    content["recipe"]["data"]["synthetic"] = {"train": 8, "val": 1, "test": 1, "size": [64, 64], "seed": 0}
    top10.write_text(json.dumps(content))
    fulltrain(top10, top=1, task="panoptic", overrides=[{"baselines": [], "task": TASK}], console=console)
    rows = json.loads((top10.parent / "fulltrain-blendmask_panoptic" / "results.json").read_text())
    assert rows["data"]["name"].startswith("synthetic-panoptic")


def test_a_data_set_of_instances_alone_is_refused(top10: Path, console: Console) -> None:
    with pytest.raises(InputError, match=r"a panoptic data set must be laid out as .*but got neither"):
        fulltrain(top10, top=1, task="panoptic", overrides=[{"baselines": []}], console=console)


def test_tables_take_what_is_measured_and_nothing_else() -> None:
    values = PanopticEvaluation(1, 1).metrics(("a", "b")).as_dict()
    assert PanopticTables().measured(values) == values
    assert values["pq"] is None
    assert PanopticTables().measured({**values, "pq": 1.5}) is None
    assert PanopticTables().measured({**values, "per_class": {"a": "much"}}) is None
    assert PanopticTables().measured({"pq": 0.5}) is None
    assert PanopticTables().measured([]) is None
    assert PanopticMetrics(**values).per_class == {"a": None, "b": None}
