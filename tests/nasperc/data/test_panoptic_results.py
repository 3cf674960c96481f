"""What is written for a test server: read back by the project's own reader it is what was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from panoptic_folder import edit, write_panoptic
from PIL import Image

from nasperc.data.panoptic import PanopticClasses
from nasperc.data.panoptic_formats import open_panoptic
from nasperc.data.panoptic_results import writing_results
from nasperc.errors import InputError
from nasperc.evaluation.pq import PanopticEvaluation
from nasperc.models.panoptic.segmentation import PanopticSegmentation

NAME = "panoptic_train_nasperc_results"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_panoptic(tmp_path / "panoptic")


def found(index: int) -> PanopticSegmentation:
    """A person, a sky, and a cat that others hide."""
    places = torch.zeros(20, 30, dtype=torch.int64)
    places[:9] = 2
    places[10 + index : 18, 3:12] = 3
    return PanopticSegmentation(places, torch.tensor([0, 2, 1]), scores=torch.tensor([0.5, 1.0, 0.81]))


def test_results_are_read_back(folder: Path, tmp_path: Path) -> None:
    data = open_panoptic(folder, "train")
    with writing_results(tmp_path / "out", data) as add:
        for index in range(len(data)):
            add(index, found(index))
        assert not (tmp_path / "out").exists()
    content = json.loads((tmp_path / "out" / f"{NAME}.json").read_text())
    assert [each["image_id"] for each in content["annotations"]] == [2, 7]
    assert content["annotations"][0]["file_name"] == "000000000002.png"
    assert content["annotations"][0]["segments_info"] == [
        {"id": 2, "category_id": 187, "area": 270, "bbox": [0, 0, 30, 9], "iscrowd": 0, "score": 1.0},
        {"id": 3, "category_id": 1, "area": 72, "bbox": [3, 10, 9, 8], "iscrowd": 0, "score": 0.81},
    ]
    assert {each["id"]: each["isthing"] for each in content["categories"]} == {17: 1, 1: 1, 187: 0}
    picture = np.asarray(Image.open(tmp_path / "out" / NAME / "000000000007.png"))
    assert picture[..., 0].tolist() == found(1).map.tolist()
    assert not picture[..., 1:].any()
    again = open_panoptic(folder, "train", annotations=tmp_path / "out" / f"{NAME}.json")
    one, other = PanopticEvaluation(2, 1), PanopticEvaluation(2, 1)
    for index in range(len(data)):
        sample, read = data[index], again[index]
        segmentation = again.truth(index, read)
        assert torch.equal(read.panoptic > 0, found(index).map > 0)
        one.add(segmentation, data.truth(index, sample))
        other.add(found(index), data.truth(index, sample))
    assert one.metrics(data.panoptic.names) == other.metrics(data.panoptic.names)
    # A row of it lies in void.
    assert one.metrics().pq_stuff == 1


def test_nothing_is_left_of_results_that_were_not_finished(folder: Path, tmp_path: Path) -> None:
    data = open_panoptic(folder, "train")

    def interrupted() -> None:
        with writing_results(tmp_path / "out", data) as add:
            add(0, found(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [each.name for each in tmp_path.iterdir()] == ["panoptic"]


def test_what_stands_there_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="a folder of results must be a new one"),
        writing_results(folder, open_panoptic(folder, "train")),
    ):
        pass


def test_every_class_needs_an_id(folder: Path, tmp_path: Path) -> None:
    edit(folder, lambda content: content["categories"][0].update(name="people"))
    edit(folder, lambda content: content["annotations"].clear())
    data = open_panoptic(folder, "train", classes=PanopticClasses(("cat", "person"), ("sky",)))
    with (
        pytest.raises(InputError, match="need the data set's own id of every class"),
        writing_results(tmp_path / "out", data),
    ):
        pass
    assert not (tmp_path / "out").exists()
