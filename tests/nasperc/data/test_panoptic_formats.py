"""Which layouts hold panoptic data, and a test server's list of images in their place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from panoptic_folder import edit, segments_of, write_panoptic

from nasperc.data.formats import detect_format
from nasperc.data.panoptic_formats import classes_of_panoptic, has_panoptic_split, open_panoptic
from nasperc.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_panoptic(tmp_path / "panoptic")


def test_files_of_instances_beside_them_do_not_count(folder: Path) -> None:
    shutil.copy(
        folder / "annotations/panoptic_train2017.json", folder / "annotations/instances_train2017.json"
    )
    assert detect_format(folder) == "coco"
    assert len(open_panoptic(folder, "train").panoptic.stuff) == 1
    assert has_panoptic_split(folder, "train2017")
    assert not has_panoptic_split(folder, "val")


def test_classes_are_those_of_the_train_split(folder: Path) -> None:
    shutil.copytree(folder / "annotations/panoptic_train2017", folder / "annotations/panoptic_val2017")
    shutil.copytree(folder / "train2017", folder / "val2017")
    shutil.copy(folder / "annotations/panoptic_train2017.json", folder / "annotations/panoptic_val2017.json")
    edit(folder, lambda content: content["categories"].append({"id": 4, "name": "ape", "isthing": 1}))
    assert open_panoptic(folder, "val").panoptic.things == ("ape", "cat", "person")
    assert open_panoptic(folder, "val", train_split="none").panoptic.things == ("cat", "person")
    assert classes_of_panoptic(folder, "val").things == ("cat", "person")


def test_folders_of_another_layout(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"must be laid out as COCO panoptic .* or Cityscapes .*but got neither"
    ):
        open_panoptic(tmp_path, "train")
    (folder / "gtFine").mkdir()
    (folder / "gtFine/cityscapes_panoptic_train.json").write_text("{}")
    with pytest.raises(InputError, match=r"but got both .*--format coco_panoptic or --format cityscapes"):
        open_panoptic(folder, "train")
    assert len(open_panoptic(folder, "train", format="coco_panoptic")) == 2
    with pytest.raises(InputError, match=r"format coco_panoptic, cityscapes.*but got format voc"):
        open_panoptic(folder, "train", format="voc")
    with pytest.raises(InputError, match="must be a folder"):
        open_panoptic(folder / "none", "train")


def test_a_list_of_images_alone_has_the_categories_of_the_data_set(folder: Path, tmp_path: Path) -> None:
    things = [{"id": 1, "name": "person"}, {"id": 17, "name": "cat"}]
    images = [{"id": 2, "file_name": "2.jpg", "height": 20, "width": 30}]
    (tmp_path / "info.json").write_text(json.dumps({"images": images, "categories": things}))
    data = open_panoptic(folder, "train", annotations=tmp_path / "info.json")
    assert len(data) == 1
    assert data.category_ids == (17, 1, 187)
    assert (data[0].panoptic == 0).all()


def test_other_segments_in_place_of_its_own(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "annotations/panoptic_train2017", tmp_path / "other")
    shutil.copy(folder / "annotations/panoptic_train2017.json", tmp_path / "other.json")
    edit(folder, lambda content: segments_of(content).pop())
    with pytest.raises(InputError, match="no entry of the id 70000"):
        open_panoptic(folder, "train")[0]
    other = open_panoptic(folder, "train", annotations=tmp_path / "other.json")
    assert other[0].panoptic.unique().tolist() == [0, 1, 2, 3]
