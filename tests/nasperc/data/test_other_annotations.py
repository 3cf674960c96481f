"""Annotations in place of a data set's own, as those of LVIS, of a test server, or of somebody who draws better."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nasperc.data.federated import FederatedLabels, read_federated_labels
from nasperc.data.formats import open_dataset
from nasperc.errors import InputError
from nasperc.evaluation.coco_ap import coco_ap

SQUARE = [[2, 3, 12, 3, 12, 13, 2, 13]]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A data set with val alone: images 1 and 2 of 2017, ids 17 (cat), 18 (dog) and 11 (fire hydrant)."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    for k in (1, 2):
        Image.new("RGB", (30, 20)).save(root / "val2017" / f"{k:012d}.jpg")
    content = {
        "images": [{"id": k, "file_name": f"{k:012d}.jpg", "height": 20, "width": 30} for k in (1, 2)],
        "categories": [
            {"id": k, "name": name} for k, name in ((17, "cat"), (18, "dog"), (11, "fire hydrant"))
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 17, "bbox": [1, 1, 12, 12]}],
    }
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


def lvis(name: str = "{:012d}.jpg") -> dict[str, Any]:
    """A 'cocofied' file of LVIS: its own names, COCO's ids, and only those that occur."""
    images = [
        {"id": 1, "file_name": name.format(1), "neg_category_ids": [18], "not_exhaustive_category_ids": []},
        {"id": 2, "file_name": name.format(2), "neg_category_ids": [], "not_exhaustive_category_ids": [11]},
    ]
    box = {"bbox": [2, 3, 10, 10], "area": 100, "segmentation": SQUARE}
    return {
        "images": [{**image, "height": 20, "width": 30} for image in images],
        "categories": [
            {"id": 17, "name": "cat", "synset": "cat.n.01"},
            {"id": 18, "name": "dog", "synset": "dog.n.01"},
            {"id": 11, "name": "fireplug", "synset": "fireplug.n.01"},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 17, **box},
            {"id": 2, "image_id": 2, "category_id": 11, **box},
        ],
    }


def written(folder: Path, content: dict[str, Any]) -> Path:
    # In the folder of annotations, by a name that looks like a split's.
    file = folder / "annotations" / "instances_lvis_val2014.json"
    file.write_text(json.dumps(content))
    return file


CLASSES = ("cat", "dog", "fire hydrant")


@pytest.mark.parametrize("name", ["{:012d}.jpg", "COCO_val2014_{:012d}.jpg"])
def test_a_cocofied_file_is_known_by_its_ids(coco: Path, name: str) -> None:
    file = written(coco, lvis(name))
    data = open_dataset(coco, "val", classes=CLASSES, annotations=file, masks=True)
    assert data.category_ids == (17, 18, 11)
    assert [record.labels.tolist() for record in data.records] == [[0], [2]]
    assert [record.file for record in data.records] == [coco / "val2017" / f"{k:012d}.jpg" for k in (1, 2)]
    assert [record.federated for record in data.records] == [
        FederatedLabels(negative=(1,)),
        FederatedLabels(not_exhaustive=(2,)),
    ]
    assert data[0].masks.bitmaps().sum() == 100
    truth = data.coco_ground_truth()
    assert truth["images"][0]["neg_category_ids"] == [2]
    assert truth["images"][1]["not_exhaustive_category_ids"] == [3]
    # A dog where there is known to be none, a cat where nothing is known of cats.
    found = [
        {"image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.5},
        {"image_id": 2, "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.9},
    ]
    assert coco_ap(truth, found).per_class["cat"] == pytest.approx(1.0)
    # The data set's own annotations are as before.
    assert open_dataset(coco, "val").records[0].boxes.tolist() == [[1, 1, 13, 13]]


def test_images_whose_name_is_an_address_may_lie_in_several_folders(coco: Path) -> None:
    (coco / "train2017").mkdir()
    (coco / "val2017" / f"{2:012d}.jpg").rename(coco / "train2017" / f"{2:012d}.jpg")
    content = lvis()
    for image, folder in zip(content["images"], ("val2017", "train2017"), strict=True):
        image["coco_url"] = f"http://images.cocodataset.org/{folder}/{image.pop('file_name')}"
    data = open_dataset(coco, "val", classes=CLASSES, annotations=written(coco, content))
    assert [record.file.parent.name for record in data.records] == ["val2017", "train2017"]


def test_names_of_2014_stay_where_images_are_called_so(coco: Path) -> None:
    for file in list((coco / "val2017").iterdir()):
        file.rename(file.with_name(f"COCO_val2014_{file.name}"))
    file = written(coco, lvis("COCO_val2014_{:012d}.jpg"))
    data = open_dataset(coco, "val", classes=CLASSES, annotations=file)
    assert data.records[0].file.name == f"COCO_val2014_{1:012d}.jpg"


def test_other_files_go_by_the_names_of_their_categories(coco: Path) -> None:
    content = lvis()
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    file = written(coco, content)
    with pytest.raises(
        InputError, match=r"a class must be one of cat, dog, fire hydrant, but got 'fireplug'"
    ):
        open_dataset(coco, "val", classes=CLASSES, annotations=file)
    assert open_dataset(coco, "val", annotations=file).classes == ("cat", "dog", "fireplug")
    # So does a federated one with ids that the data set does not have.
    content = lvis()
    content["categories"].append({"id": 1203, "name": "zucchini"})
    with pytest.raises(InputError, match="but got 'fireplug'"):
        open_dataset(coco, "val", classes=CLASSES, annotations=written(coco, content))


def test_a_test_servers_file_has_no_annotations(coco: Path) -> None:
    content = lvis()
    del content["annotations"]
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    content["categories"][2]["name"] = "fire hydrant"
    data = open_dataset(coco, "val", classes=CLASSES, annotations=written(coco, content), masks=True)
    assert (len(data), data.objects(), data.category_ids) == (2, 0, (17, 18, 11))
    assert data[1].masks.bitmaps().shape == (0, 20, 30)
    # The data set's own files are annotated.
    written(coco, content).rename(coco / "annotations/instances_val2017.json")
    with pytest.raises(InputError, match="must have a list 'annotations'"):
        open_dataset(coco, "val")


def test_classes_that_a_file_does_not_list_have_no_ids(coco: Path) -> None:
    assert open_dataset(coco, "val", classes=(*CLASSES, "zebra")).category_ids is None
    data = open_dataset(coco, "val", classes=("dog", "cat", "fire hydrant"))
    assert data.category_ids == (18, 17, 11)
    assert data.subset([0]).category_ids == (18, 17, 11)


def test_a_file_of_other_images_is_named(coco: Path) -> None:
    content = lvis()
    content["images"][0]["file_name"] = "gone.jpg"
    with pytest.raises(InputError, match=r"'gone\.jpg' in none of them"):
        open_dataset(coco, "val", annotations=written(coco, content))
    with pytest.raises(InputError, match=r"well-formed JSON.*nowhere\.json"):
        open_dataset(coco, "val", annotations=coco / "nowhere.json")


def edited(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = lvis()
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (edited(lambda c: c["images"][1].update(neg_category_ids=[77])), "'neg_category_ids' of image 2"),
        (edited(lambda c: c["images"][1].update(neg_category_ids=["17"])), "'neg_category_ids' of image 2"),
        (edited(lambda c: c["images"][1].update(neg_category_ids=[True])), "'neg_category_ids' of image 2"),
        (
            edited(lambda c: c["images"][0].update(not_exhaustive_category_ids=3)),
            "'not_exhaustive_category_ids' of image 1 must be a list",
        ),
        (edited(lambda c: c["images"].append(3)), "must be an object"),
        (edited(lambda c: c["images"][0].pop("file_name")), "must have 'file_name'"),
        (edited(lambda c: c["images"][0].update(file_name=None, coco_url=3)), "must have 'file_name'"),
        (
            edited(lambda c: c["images"][0].update(file_name=None, coco_url="/../a.jpg")),
            "inside the data set",
        ),
        (edited(lambda c: c["categories"].append([])), "must be an object"),
        (edited(lambda c: c["annotations"][0].pop("segmentation")), "polygons or run lengths.*without any"),
    ],
)
def test_bad_file_is_one_clear_error(coco: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(coco, "val", classes=CLASSES, annotations=written(coco, content), masks=True)


def test_federated_labels_are_of_classes_alone() -> None:
    images = {3: {"id": 3, "neg_category_ids": [9, 4, 9]}, 4: {"id": 4}}
    labels = {9: 1, 4: None}
    assert read_federated_labels(images, labels, Path("a.json")) == {
        3: FederatedLabels(negative=(1,)),
        4: FederatedLabels(),
    }
    assert read_federated_labels({4: {"id": 4}}, labels, Path("a.json")) == {}


def test_categories_cannot_be_merged_where_each_is_annotated_by_itself(coco: Path) -> None:
    with pytest.raises(InputError, match="complete for some categories only"):
        open_dataset(coco, "val", one_class=True, annotations=written(coco, lvis()))
