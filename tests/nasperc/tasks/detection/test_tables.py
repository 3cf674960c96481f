"""What the evaluation of one network prints."""

from pathlib import Path

import pytest

from nasperc.data.dataset import DetectionDataset
from nasperc.data.formats import open_dataset
from nasperc.data.synthetic import write_synthetic
from nasperc.evaluation.coco_ap import coco_ap
from nasperc.tasks.detection.tables import NUMBERS, evaluation_tables


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    write_synthetic(
        tmp_path / "d", images={"val": 4}, size=(64, 64), classes=("disc", "square"), formats=("coco",)
    )
    # No image shows the last one.
    return open_dataset(tmp_path / "d", "val", classes=("disc", "square", "star"))


def test_a_table_by_class_where_it_is_asked_for(dataset: DetectionDataset) -> None:
    truth = dataset.coco_ground_truth()
    # All discs, exactly, and no square.
    found = [{**each, "score": 0.9} for each in truth["annotations"] if each["category_id"] == 1]
    boxes, nothing = coco_ap(truth, found).as_dict(), coco_ap(truth, []).as_dict()
    numbers, by_class = evaluation_tables(dataset, {"masks": nothing, "boxes": boxes}, per_class=True)
    assert numbers.title == f"on {dataset.name} val, 4 images"
    assert numbers.header == ["metric", "masks", "boxes"]
    assert [row[0] for row in numbers.body] == [key for key, _ in NUMBERS]
    assert numbers.body[0] == ["ap", "0.0000", "0.5000"]
    assert by_class.header == ["class", "AP of masks", "AP of boxes"]
    assert by_class.body == [
        ["disc", "0.0000", "1.0000"],
        ["square", "0.0000", "0.0000"],
        ["star", "undefined", "undefined"],
    ]
    assert evaluation_tables(dataset, {"boxes": boxes}, per_class=False) == [
        numbers._replace(header=["metric", "boxes"], body=[[key, value] for key, _, value in numbers.body])
    ]
