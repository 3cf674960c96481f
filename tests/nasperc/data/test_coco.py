import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from nasperc.data.coco import coco_classes, coco_splits, read_coco
from nasperc.errors import InputError

SIZE = (20, 30)


def annotation(box, category=1, image=1, **fields) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, **fields}


def write_coco(
    root: Path, annotations: list, name="train", folder="train", categories=("dog", "cat"), images=(1,)
) -> Path:
    """A COCO data set of black images 20 x 30; category ids are 1, 2, ... in the order given."""
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "height": 20, "width": 30} for k in images],
        "categories": [{"id": k, "name": each} for k, each in enumerate(categories, 1)],
        "annotations": annotations,
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / folder).mkdir(parents=True, exist_ok=True)
    for k in images:
        Image.new("RGB", (30, 20)).save(root / folder / f"{k}.png")
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return root


def edit(root: Path, change) -> None:
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_boxes_labels_and_areas(tmp_path):
    objects = [
        annotation([2, 3, 10, 5], category=1, area=31.5, id=7),
        annotation([0.5, 0, 4, 4], category=2, iscrowd=1, id=8),
        annotation([1, 1, 2, 2], category=2, image=9, id=9),
    ]
    data = read_coco(write_coco(tmp_path, objects, images=(9, 1)), "train")
    # Categories are sorted by name, whatever their ids; images by id.
    assert data.classes == ("cat", "dog")
    assert [record.image_id for record in data.records] == [1, 9]
    first = data.records[0]
    assert first.boxes.tolist() == [[2, 3, 12, 8], [0.5, 0, 4.5, 4]]
    assert first.labels.tolist() == [1, 0]
    assert first.crowd.tolist() == [False, True]
    assert first.areas.tolist() == [31.5, 16]
    assert first.segmentations is None
    assert data[0].masks is None


@pytest.mark.parametrize("box", [[5, 5, 0, 4], [5, 5, 4, 0], [5, 5, -1, 4]])
def test_degenerate_box_is_dropped_and_counted(tmp_path, box):
    root = write_coco(tmp_path, [annotation(box), annotation([1, 1, 2, 2])])
    data = read_coco(root, "train")
    assert len(data.records[0].boxes) == 1
    assert "1 degenerate box dropped" in data.report.lines()[0]
    with pytest.raises(InputError, match="width > 0 and height > 0"):
        read_coco(root, "train", strict=True)


def test_box_outside_is_clipped_but_rounding_is_not_counted(tmp_path):
    root = write_coco(tmp_path, [annotation([-2, 5, 40, 30]), annotation([10, 10, 20.01, 5])])
    data = read_coco(root, "train")
    np.testing.assert_array_equal(data.records[0].boxes, [[0, 5, 30, 20], [10, 10, 30, 15]])
    assert (data.report.clipped, data.report.dropped) == (1, 0)
    with pytest.raises(InputError, match="inside its image"):
        read_coco(root, "train", strict=True)


def test_masks_of_all_three_kinds_are_the_same_rectangle(tmp_path):
    # Rows 4..7, columns 10..15. Runs go down the columns: 10 columns of 20 pixels, then 4 above.
    rectangle = np.zeros(SIZE, bool)
    rectangle[4:8, 10:16] = True
    runs = [10 * 20 + 4] + [4, 16] * 5 + [4, 12 + 14 * 20]
    kinds = [
        [[10, 4, 16, 4, 16, 8, 10, 8]],
        {"size": [20, 30], "counts": runs},
        {
            "size": [20, 30],
            "counts": coco_mask.encode(np.asfortranarray(rectangle, np.uint8))["counts"].decode(),
        },
        # A polygon of two parts: the left and the right half; the two-point part counts for nothing.
        [[10, 4, 13, 4, 13, 8, 10, 8], [13, 4, 16, 4, 16, 8, 13, 8], [1, 1, 2, 2]],
    ]
    box = [10, 4, 6, 4]
    root = write_coco(tmp_path, [annotation(box, segmentation=kind) for kind in kinds])
    masks = read_coco(root, "train", masks=True)[0].masks.bitmaps()
    assert masks.shape == (4, 20, 30)
    for mask in masks.numpy():
        np.testing.assert_array_equal(mask, rectangle)


def test_object_without_a_real_polygon_is_dropped(tmp_path):
    root = write_coco(tmp_path, [annotation([1, 1, 4, 4], segmentation=[[1, 1, 3, 3]])])
    data = read_coco(root, "train", masks=True)
    assert (len(data.records[0].boxes), data.report.without_mask) == (0, 1)
    assert data[0].masks.bitmaps().shape == (0, 20, 30)
    assert len(read_coco(root, "train").records[0].boxes) == 1


def test_objects_without_a_pixel_are_counted_and_said_once(tmp_path):
    empty = [
        {"size": [20, 30], "counts": [600]},
        {"size": [20, 30], "counts": "hb0"},
        [],
        [[1, 1, 3, 3], [5, 5]],
    ]
    crowd = {"size": [20, 30], "counts": [100, 40, 460]}
    objects = [annotation([1, 1, 4, 4], segmentation=each) for each in empty]
    objects += [
        annotation([5, 0, 4, 20], segmentation=crowd, iscrowd=1),
        annotation([1, 1, 4, 4], segmentation=[[1, 1, 5, 1, 5, 5, 1, 5]]),
    ]
    root = write_coco(tmp_path, objects)
    data = read_coco(root, "train", masks=True)
    assert data.records[0].crowd.tolist() == [True, False]
    assert data[0].masks.bitmaps().sum(dim=(1, 2)).tolist() == [40, 16]
    file = root / "annotations" / "instances_train.json"
    assert data.lines() == [f"4 objects without a mask dropped (first: {file})"]
    with pytest.raises(InputError, match="a mask must have a pixel, and a polygon three points"):
        read_coco(root, "train", masks=True, strict=True)
    assert len(read_coco(root, "train", strict=True).records[0].boxes) == 6


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "polygons or run lengths"),
        ("nonsense", "polygons or run lengths"),
        ({"size": [20, 30]}, "polygons or run lengths"),
        ([[1, 1, 2, 2, 3]], "x, y pairs"),
        ([[1, 1, 2, 2, 3, "4"]], "x, y pairs"),
        ([[1, 1, 2, 2, 3, 1e12]], "in or near the image"),
        ([[1, 1, 2, 2, 3, float("nan")]], "in or near the image"),
        ([1, 1, 2, 2, 3, 4], "x, y pairs"),
        ({"size": [30, 20], "counts": [600]}, "their image's size"),
        ({"size": [20, 30], "counts": [599]}, "a sum of 599 instead of 600"),
        ({"size": [20, 30], "counts": [601, -1]}, "add up"),
        ({"size": [20, 30], "counts": "00"}, "a sum of 0 instead of 600"),
        ({"size": [20, 30], "counts": ""}, "a sum of 0 instead of 600"),
        ({"size": [20, 30], "counts": "oooo"}, "add up"),
        ({"size": [20.0, 30], "counts": [600]}, "their image's size"),
        ({"size": [20, 30], "counts": [True, 599]}, "add up"),
        ([[1, 1, 2, 2, 3, True]], "x, y pairs"),
    ],
)
def test_bad_segmentation_is_one_clear_error(tmp_path, segmentation, message):
    root = write_coco(tmp_path, [annotation([1, 1, 4, 4], segmentation=segmentation)])
    with pytest.raises(InputError, match=message):
        read_coco(root, "train", masks=True)
    assert len(read_coco(root, "train").records[0].boxes) == 1


def test_splits_and_image_folders(tmp_path):
    write_coco(tmp_path, [], name="train2014", folder="train2014", images=(14,))
    write_coco(tmp_path, [], name="train2017", folder="train2017", images=(17,))
    write_coco(tmp_path, [], name="val", folder="images", images=(3,))
    assert coco_splits(tmp_path) == ("train", "train2014", "val")
    assert read_coco(tmp_path, "train")[0].meta.image_id == 17
    assert read_coco(tmp_path, "train2017")[0].meta.image_id == 17
    assert read_coco(tmp_path, "train2014")[0].meta.image_id == 14
    assert read_coco(tmp_path, "val").records[0].file == tmp_path / "images" / "3.png"
    with pytest.raises(InputError, match="Splits found: train, train2014, val"):
        read_coco(tmp_path, "test")


def test_a_file_of_just_the_split_s_name_wins(tmp_path):
    write_coco(tmp_path, [], name="train", folder="train", images=(1,))
    write_coco(tmp_path, [], name="train2017", folder="train2017", images=(17,))
    assert read_coco(tmp_path, "train").records[0].image_id == 1


@pytest.mark.parametrize(
    ("written", "crowd"),
    [
        *((written, False) for written in (0, "0", "false", " 0 ", 0.0, None, False)),
        *((written, True) for written in (1, "1", "True", 1.0, True)),
    ],
)
def test_a_crowd_flag_is_read_for_what_it_says(tmp_path, written, crowd):
    root = write_coco(tmp_path, [annotation([2, 3, 10, 5], iscrowd=written)])
    assert read_coco(root, "train").records[0].crowd.tolist() == [crowd]


def test_areas_that_no_object_has_are_replaced_and_counted(tmp_path):
    stated = [-1, 0, float("nan"), float("inf"), 10**400, "-3", "31.5", 31.5, None]
    root = write_coco(tmp_path, [annotation([1, 1, 4, 3], area=area) for area in stated])
    data = read_coco(root, "train")
    assert data.records[0].areas.tolist() == [12] * 6 + [31.5, 31.5, 12]
    (line,) = data.report.lines()
    assert line.startswith("6 areas that are no numbers above 0 replaced by that of the box (first: ")
    with pytest.raises(InputError, match="must be a number above 0, but got -1"):
        read_coco(root, "train", strict=True)


def test_blanks_around_category_names_do_not_count(tmp_path):
    objects = [annotation([1, 1, 4, 4], category=1), annotation([1, 1, 4, 4], category=2)]
    root = write_coco(tmp_path, objects, categories=("dog ", "	cat"))
    data = read_coco(root, "train")
    assert data.classes == coco_classes(root, "train") == ("cat", "dog")
    assert data.records[0].labels.tolist() == [1, 0]
    assert data.report.lines() == ["blanks around 2 category names left out (first: 'dog ')"]
    # A checkpoint that was trained before has the blanks in its names.
    assert read_coco(root, "train", ("dog ", "cat")).records[0].labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="differ in more than blanks, but got 'dog ' and 'dog'"):
        read_coco(root, "train", ("dog ", "cat", "dog"))


@pytest.mark.parametrize("name", ["", "  ", "\u00a0"])
def test_an_empty_category_name_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="must not be empty"):
        read_coco(write_coco(tmp_path, [], categories=("dog", name)), "train")


def with_supercategories(*names):
    def change(content):
        for category, name in zip(content["categories"], names, strict=True):
            category["supercategory"] = name

    return change


def test_of_two_categories_of_one_name_the_annotated_one_stays(tmp_path):
    root = write_coco(tmp_path, [annotation([1, 1, 4, 4], category=3)], categories=("dog", "cat", "dog "))
    data = read_coco(root, "train")
    assert data.classes == ("cat", "dog")
    assert data.records[0].labels.tolist() == [1]
    said = "1 category with the name of another and no annotation left out (first: 'dog', id 1)"
    assert said in data.report.lines()
    # Both are annotated: it cannot be known whether they are one class.
    edit(root, lambda content: content["annotations"].append(annotation([1, 1, 4, 4], category=1)))
    with pytest.raises(InputError, match="name must be unique, but got 'dog' twice, ids 1 and 3"):
        read_coco(root, "train")


def test_the_root_of_all_categories_is_no_class(tmp_path):
    root = write_coco(tmp_path, [annotation([1, 1, 4, 4], category=2)], categories=("cells", "red", "white"))
    edit(root, with_supercategories("none", "cells", "cells"))
    data = read_coco(root, "train")
    assert data.classes == coco_classes(root, "train") == ("red", "white")
    assert data.report.lines() == [
        "category 'cells' (id 1) left out: all others name it as their supercategory, and no annotation has it"
    ]


@pytest.mark.parametrize(
    ("annotated", "above"),
    [
        # Annotated; not of all others; of none but itself.
        (1, ("none", "cells", "cells")),
        (2, ("none", "cells", "none")),
        (2, ("cells", "red", "white")),
        (2, (None, None, None)),
    ],
)
def test_every_other_category_without_annotations_stays(tmp_path, annotated, above):
    root = write_coco(
        tmp_path, [annotation([1, 1, 4, 4], category=annotated)], categories=("cells", "red", "white")
    )
    edit(root, with_supercategories(*above))
    assert read_coco(root, "train").classes == ("cells", "red", "white")


def test_the_root_with_the_name_of_a_class(tmp_path):
    root = write_coco(tmp_path, [annotation([1, 1, 4, 4], category=2)], categories=("dog", "cat", "dog"))
    edit(root, with_supercategories("none", "dog", "dog"))
    # No dog is annotated in this split: the class stays all the same.
    assert read_coco(root, "train").classes == ("cat", "dog")


def test_the_only_category_has_no_others(tmp_path):
    root = write_coco(tmp_path, [], categories=("person",))
    edit(root, with_supercategories("person"))
    assert read_coco(root, "train").classes == ("person",)


def test_unknown_class_only_matters_where_it_is_used(tmp_path):
    root = write_coco(tmp_path, [annotation([1, 1, 4, 4], category=2)])
    assert coco_classes(root, "train") == ("cat", "dog")
    assert read_coco(root, "train", ("bird", "cat")).records[0].labels.tolist() == [1]
    with pytest.raises(InputError, match=r"one of bird, dog, but got 'cat' \(in .*instances_train\.json"):
        read_coco(root, "train", ("bird", "dog"))


def first(key: str, name: str, value: Any):
    def change(content):
        content[key][0][name] = value

    return change


def remove(key: str, name: str):
    def change(content):
        del content[key][0][name]

    return change


def double(key: str):
    def change(content):
        content[key].append(content[key][0])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "must have a list 'images'"),
        (lambda c: c.update(categories=[]), "must list categories"),
        (lambda c: c.update(images=[]), "must list images"),
        (lambda c: c.update(annotations={}), "must have a list 'annotations'"),
        (lambda c: c["annotations"].append(3), "must be an object"),
        (remove("annotations", "bbox"), r"must have 'bbox' \(list\)"),
        (remove("annotations", "category_id"), "must have 'category_id'"),
        (remove("images", "width"), "must have 'width'"),
        (first("annotations", "id", [1]), "must have 'id'"),
        (first("annotations", "bbox", [1, 2, 3]), "x, y, width, height"),
        (first("annotations", "bbox", [1, 2, float("nan"), 3]), "finite"),
        (first("annotations", "category_id", 77), "category id must be listed, but got 77"),
        (first("annotations", "image_id", 77), "must name a listed image, but got 77"),
        (first("images", "id", "one"), "must have 'id'"),
        (first("images", "height", 0), "must be from 1 to 65535"),
        (first("images", "file_name", "gone.png"), "'gone.png' in none of them"),
        (first("images", "file_name", "../a.png"), "inside the data set"),
        (first("images", "file_name", "/etc/passwd"), "inside the data set"),
        (first("images", "file_name", "9" * 256), "inside the data set"),
        (first("images", "file_name", "a\0.png"), "inside the data set"),
        (first("images", "file_name", "\ud800.png"), "inside the data set"),
        (first("images", "width", 10**12), "must be from 1 to 65535"),
        (first("images", "id", 2**64), "at most 64 bits"),
        (first("categories", "name", "\ud800"), "must be text"),
        (first("annotations", "bbox", [1, 2, 10**400, 3]), "x, y, width, height"),
        (first("categories", "supercategory", 3), "'supercategory' of category 1 must be text"),
        (first("annotations", "iscrowd", "2"), "'iscrowd' of annotation 1 must be 0 or 1, but got '2'"),
        (first("annotations", "iscrowd", 2), "'iscrowd' of annotation 1 must be 0 or 1"),
        (first("annotations", "iscrowd", "no"), "'iscrowd' of annotation 1 must be 0 or 1"),
        (first("annotations", "iscrowd", []), "'iscrowd' of annotation 1 must be 0 or 1"),
        (first("annotations", "area", "large"), "'area' of annotation 1 must be a number above 0"),
        (first("annotations", "area", True), "'area' of annotation 1 must be a number above 0"),
        (first("annotations", "bbox", ["1", "2", "3", "4"]), "bbox of annotation 1 must be"),
        (first("annotations", "bbox", [True, 2, 3, 4]), "bbox of annotation 1 must be"),
        (first("annotations", "bbox", [1, None, 3, 4]), "bbox of annotation 1 must be"),
        (first("annotations", "category_id", "1"), "must have 'category_id'"),
        (first("images", "width", "30"), "must have 'width'"),
        (double("images"), "image id must be unique"),
        (double("annotations"), "annotation id must be unique"),
        (double("categories"), "category id must be unique"),
    ],
)
def test_bad_file_is_one_clear_error(tmp_path, change, message):
    root = write_coco(tmp_path, [annotation([1, 1, 4, 4], id=1)])
    edit(root, change)
    with pytest.raises(InputError, match=message):
        read_coco(root, "train")


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe{", b"", b"[]", b"[" * 100_000])
def test_malformed_json_is_one_clear_error(tmp_path, text):
    root = write_coco(tmp_path, [])
    (root / "annotations/instances_train.json").write_bytes(text)
    with pytest.raises(InputError, match=r"instances_train\.json"):
        read_coco(root, "train")


def test_second_image_missing_is_named(tmp_path):
    root = write_coco(tmp_path, [], images=(1, 2))
    (root / "train" / "2.png").unlink()
    with pytest.raises(InputError, match=r"must exist.*2\.png"):
        read_coco(root, "train")
