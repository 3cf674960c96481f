"""The COCO panoptic layout read as instances, on small folders that are written here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from panoptic_folder import SEGMENTS, SIZE, edit, segments_of, write_map, write_panoptic
from PIL import Image

from nasperc.data.coco_panoptic import panoptic_classes, panoptic_splits, read_panoptic
from nasperc.data.formats import detect_format, has_split, open_dataset, splits
from nasperc.data.segment_map import read_segments, segment_masks
from nasperc.errors import InputError


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    return write_panoptic(tmp_path / "panoptic")


def test_things_are_the_objects(panoptic: Path) -> None:
    data = open_dataset(panoptic, "train", masks=True)
    assert data.classes == ("cat", "person") == panoptic_classes(panoptic, "train")
    assert data.category_ids == (17, 1)
    assert [record.image_id for record in data.records] == [2, 7]
    record, sample = data.records[0], data[0]
    assert record.boxes.tolist() == [[2, 10, 12, 18], [15, 9, 25, 19]]
    assert (record.labels.tolist(), record.crowd.tolist(), record.areas.tolist()) == (
        [1, 0],
        [False, True],
        [61, 100],
    )
    expected = torch.zeros(2, *SIZE, dtype=torch.bool)
    expected[0, 10:18, 2:12], expected[1, 9:19, 15:25] = True, True
    assert torch.equal(sample.masks.bitmaps(), expected)
    assert (len(data[1].boxes), len(data[1].masks)) == (0, 0)
    assert data.report.lines() == []


def test_boxes_alone_need_no_map(panoptic: Path) -> None:
    (panoptic / "annotations/panoptic_train2017/2.png").unlink()
    data = open_dataset(panoptic, "train")
    assert data[0].masks is None
    assert len(data[0].boxes) == 2
    with pytest.raises(InputError, match=r"a listed map of segments must exist.*2\.png"):
        open_dataset(panoptic, "train", masks=True)


def test_a_box_that_is_not_stated_is_that_around_the_segment(panoptic: Path) -> None:
    edit(panoptic, lambda content: [each.pop("bbox") for each in segments_of(content)])
    boxes = read_panoptic(panoptic, "train").records[0].boxes
    assert boxes.tolist() == [[2, 10, 12, 18], [15, 9, 25, 19]]
    edit(panoptic, lambda content: segments_of(content)[1].update(id=299))
    data = read_panoptic(panoptic, "train")
    assert (len(data.records[0].boxes), data.report.dropped) == (1, 1)


def test_maps_may_lie_beside_the_images(panoptic: Path) -> None:
    (panoptic / "annotations/panoptic_train2017").rename(panoptic / "panoptic_train2017")
    assert len(read_panoptic(panoptic, "train", masks=True)[0].masks) == 2


def test_ground_truth_has_run_lengths_that_pycocotools_reads(panoptic: Path) -> None:
    from pycocotools.coco import COCO

    truth = read_panoptic(panoptic, "train", masks=True).coco_ground_truth()
    assert json.loads(json.dumps(truth)) == truth
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    ids = write_map(panoptic / "again.png", SEGMENTS)
    for annotation, number in zip(coco.loadAnns([1, 2]), (300, 70_000), strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), ids == number)


def test_bytes_of_maps_count_where_masks_are_asked_for(panoptic: Path) -> None:
    with_masks, without = (
        read_panoptic(panoptic, "train", masks=masks).fingerprint() for masks in (True, False)
    )
    assert with_masks != without
    write_map(panoptic / "annotations/panoptic_train2017/2.png", {**SEGMENTS, 300: (2, 10, 12, 17)})
    assert read_panoptic(panoptic, "train", masks=True).fingerprint() != with_masks
    assert read_panoptic(panoptic, "train").fingerprint() == without


def test_part_of_a_split_keeps_the_hashes_of_its_maps(panoptic: Path, tmp_path: Path) -> None:
    data = read_panoptic(panoptic, "train", masks=True)
    data.read_files(tmp_path / "prepared")
    assert len(data.hashes) == 3
    part = data.subset([0])
    assert part.hashes == (data.hashes[0], data.hashes[2])
    assert part.fingerprint() == read_panoptic(panoptic, "train", masks=True).subset([0]).fingerprint()
    assert len(data.without_crowd_regions()[0].masks) == 1


def test_layout_is_told_from_that_of_instances(panoptic: Path) -> None:
    assert detect_format(panoptic) == "coco_panoptic"
    assert splits(panoptic) == panoptic_splits(panoptic) == ("train",)
    assert has_split(panoptic, "train2017")
    assert not has_split(panoptic, "val")
    # COCO's own folders have both files.
    instances = {
        "images": [{"id": 2, "file_name": "2.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": [],
    }
    (panoptic / "annotations/instances_train2017.json").write_text(json.dumps(instances))
    assert detect_format(panoptic) == "coco"
    assert open_dataset(panoptic, "train").classes == ("dog",)
    assert open_dataset(panoptic, "train", format="coco_panoptic").classes == ("cat", "person")


def of_first(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: segments_of(content)[1].update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"][0].pop("isthing"), "'isthing' of category 1 must be 0 or 1"),
        (lambda c: c["categories"][0].update(isthing=2), "'isthing' of category 1 must be 0 or 1"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "the one of a listed image, but got 2"),
        (lambda c: c["annotations"][0].update(image_id=8), "the one of a listed image, but got 8"),
        (lambda c: c["annotations"][0].pop("segments_info"), "must have 'segments_info'"),
        (lambda c: c["annotations"][0].update(file_name="../2.png"), "inside the data set"),
        (lambda c: c["annotations"][0].update(file_name=3), "must have 'file_name'"),
        (lambda c: segments_of(c).append(segments_of(c)[1]), "segment id of image 2 must be unique"),
        (lambda c: segments_of(c).append(3), "must be an object"),
        (of_first("id", 0), "id of a segment must be from 1 to 16777215"),
        (of_first("id", 1 << 24), "id of a segment must be from 1 to 16777215"),
        (of_first("category_id", 77), "category id must be listed, but got 77"),
        (of_first("bbox", [1, 2, 3]), "x, y, width, height"),
        (of_first("iscrowd", "no"), "'iscrowd' of an annotation of image 2 must be 0 or 1"),
    ],
)
def test_bad_file_is_one_clear_error(
    panoptic: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit(panoptic, change)
    with pytest.raises(InputError, match=message) as error:
        read_panoptic(panoptic, "train", masks=True)
    assert "panoptic_train2017.json" in error.value.where


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("RGB", (20, 30)), "must have the size of its image, but got 20x30"),
        (Image.new("P", (30, 20)), r"must be an RGB image of ids.*mode P"),
        (Image.new("RGB", (30, 20)), "must have a pixel in the map of its image, but got none of the id 300"),
    ],
)
def test_bad_map_is_one_clear_error(panoptic: Path, picture: Image.Image, message: str) -> None:
    file = panoptic / "annotations/panoptic_train2017/2.png"
    picture.save(file)
    data = read_panoptic(panoptic, "train", masks=True)
    for read in (lambda: data[0], data.coco_ground_truth):
        with pytest.raises(InputError, match=message) as error:
            read()
        assert error.value.where == str(file)


def test_ids_are_made_of_three_channels(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [255, 255, 255]]], np.uint8)).save(file)
    assert read_segments(file, (1, 4)).tolist() == [[1, 256, 65_536, 16_777_215]]
    assert segment_masks(file, [], (1, 4)) == []
