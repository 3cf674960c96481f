import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasperc.data.formats import LAYOUTS, detect_format, has_split, open_dataset, open_video, splits
from nasperc.data.image_rules import ImageRules
from nasperc.errors import InputError
from nasperc.recipe.reading import parse_recipe


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "voc"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for stem, name in (("a", "zebra"), ("b", "ant"), ("c", "zebra"), ("d", "wolf")):
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
        item = f"<annotation><object><name>{name}</name>{box}</object></annotation>"
        (root / "Annotations" / f"{stem}.xml").write_text(item)
        Image.new("RGB", (8, 8)).save(root / "JPEGImages" / f"{stem}.png")
    for split, stems in (("train", "a\nb\n"), ("val", "c\n"), ("test", "d\n")):
        (root / "ImageSets/Main" / f"{split}.txt").write_text(stems)
    return root


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    Image.new("RGB", (8, 8)).save(root / "images" / "1.png")
    for split, names in (("train", ("zebra", "ant")), ("val", ("zebra",))):
        content = {
            "images": [{"id": 1, "file_name": "1.png", "height": 8, "width": 8}],
            "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
            "annotations": [{"image_id": 1, "category_id": 0, "bbox": [0, 0, 4, 4]}],
        }
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    root = tmp_path / "camvid"
    for folder in ("train", "trainannot", "val"):
        (root / folder).mkdir(parents=True)
    for k in range(3):
        Image.new("RGB", (8, 8)).save(root / "train" / f"{k}.png")
        Image.new("L", (8, 8), k).save(root / "trainannot" / f"{k}.png")
    return root


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    root = tmp_path / "cityscapes"
    for folder, kind in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        (root / folder / "val" / "ulm").mkdir(parents=True)
        Image.new("L", (8, 8), 7).save(root / folder / "val" / "ulm" / f"ulm_000000_000019_{kind}.png")
    return root


def test_layouts_are_recognised_by_their_markers(voc, coco, camvid, cityscapes):
    found = [detect_format(path) for path in (voc, coco, camvid, cityscapes)]
    assert found == ["voc", "coco", "camvid", "cityscapes"]
    assert splits(camvid) == ("train",)
    assert splits(cityscapes) == ("val",)
    assert has_split(cityscapes, "val")
    assert not has_split(camvid, "val")
    assert splits(voc) == ("test", "train", "val")
    assert splits(coco) == ("train", "val")
    assert has_split(voc, "test")
    assert not has_split(coco, "test")
    assert has_split(coco, "val2017")


def test_unknown_layout_names_all_and_a_folder_inside(voc, tmp_path):
    with pytest.raises(InputError, match=rf"ImageSets/Main.*annotations/instances_.*Did you mean {voc}"):
        detect_format(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="none of them"):
        detect_format(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        detect_format(tmp_path / "nowhere")


def test_both_layouts_at_once_need_a_choice(voc):
    (voc / "annotations").mkdir(exist_ok=True)
    (voc / "annotations" / "instances_train.json").write_text("{}")
    with pytest.raises(InputError, match="--format voc or --format coco"):
        open_dataset(voc, "train")
    assert len(open_dataset(voc, "train", format="voc")) == 2
    with pytest.raises(InputError, match="one of auto, voc, coco"):
        open_dataset(voc, "train", format="yolo")


def test_the_format_of_a_recipe_is_one_of_the_layouts():
    for name in ("auto", *LAYOUTS):
        assert parse_recipe({"data": {"format": name}}, where="here").data.format == name
    with pytest.raises(InputError, match=r"data\.format.*one of auto, voc, .*cityscapes, but got 'yolo'"):
        parse_recipe({"data": {"format": "yolo"}}, where="here")


def test_classes_are_the_sorted_names_of_the_train_split(voc, coco):
    for root in (voc, coco):
        val = open_dataset(root, "val")
        assert val.classes == open_dataset(root, "train").classes == ("ant", "zebra")
        assert val.records[0].labels.tolist() == [1]


def test_class_that_train_does_not_have_is_an_error(voc):
    with pytest.raises(InputError, match=r"one of ant, zebra, but got 'wolf' \(in .*d\.xml\)"):
        open_dataset(voc, "test")
    assert open_dataset(voc, "test", classes=("wolf", "ant")).records[0].labels.tolist() == [0]


def test_train_split_without_objects_is_an_error(voc):
    for stem in "ab":
        (voc / "Annotations" / f"{stem}.xml").write_text("<annotation/>")
    with pytest.raises(InputError, match="at least one object"):
        open_dataset(voc, "val")


def test_videos_of_both_layouts(camvid, cityscapes):
    assert len(open_video(camvid, "train")) == len(open_video(camvid, "train", format="camvid")) == 3
    assert open_video(camvid, "train", classes=("a", "b")).classes == ("a", "b")
    assert open_video(cityscapes, "val")[0].semantic.unique().tolist() == [0]
    with pytest.raises(InputError, match="a split must be one of train, but got 'val'"):
        open_video(camvid, "val")


def test_layout_that_has_not_what_is_needed(voc, camvid):
    with pytest.raises(
        InputError, match=r"with boxes \(format voc, coco, coco_panoptic\), but got the layout of CamVid"
    ):
        open_dataset(camvid, "train")
    for format in ("auto", "voc"):
        with pytest.raises(
            InputError, match=r"videos with label maps \(format camvid, cityscapes\).* of VOC"
        ):
            open_video(voc, "train", format=format)


def test_every_layout_reads_its_images_by_the_rules(voc, coco, camvid, cityscapes):
    """One image of each is half white, half black, of 16 bits and stored turned by a quarter."""
    exif, rules = Image.Exif(), ImageRules(range=(1000, 2000), exif="apply")
    exif[0x0112] = 8
    pixels = np.full((8, 8), 1000, np.uint16)
    pixels[:4] = 2000
    expected = np.full((8, 8), 255, np.uint8)
    expected[:, 4:] = 0
    for root, file in (
        (voc, "JPEGImages/a.png"),
        (coco, "images/1.png"),
        (camvid, "train/0.png"),
        (cityscapes, "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png"),
    ):
        Image.fromarray(pixels).save(root / file, exif=exif.tobytes())
        split = "val" if root is cityscapes else "train"
        opened = open_dataset if root in (voc, coco) else open_video
        dataset = opened(root, split, rules=rules)
        assert dataset.rules == rules
        assert all(np.array_equal(channel, expected) for channel in dataset[0].image)
        assert len(dataset.lines()) == 1
        with pytest.raises(InputError, match="mode I;16"):
            opened(root, split)[0]


def test_all_categories_as_one_class(voc, coco):
    for root, split, objects in ((voc, "train", 2), (voc, "test", 1), (coco, "val", 1)):
        own = open_dataset(root, split, classes=("ant", "wolf", "zebra"))
        data = open_dataset(root, split, one_class=True)
        assert data.classes == ("object",)
        assert [record.labels.tolist() for record in data.records] == [
            [0] * len(record.labels) for record in own.records
        ]
        assert data.objects() == objects
        assert data.difficult == (root is voc)
        assert data.category_ids is None
        assert data.fingerprint() != own.fingerprint()
        # What a checkpoint of such a training names.
        assert open_dataset(root, split, one_class=True, classes=("object",)).classes == ("object",)


def test_annotations_in_place_of_those_of_voc(voc, coco):
    file = voc / "mine.json"
    content = json.loads((coco / "annotations/instances_val2017.json").read_text())
    content["images"][0]["file_name"] = "c.png"
    file.write_text(json.dumps(content))
    data = open_dataset(voc, "val", annotations=file)
    assert (len(data), data.records[0].file, data.difficult) == (1, voc / "JPEGImages" / "c.png", False)
    # The classes are those of the data set's train split.
    assert data.classes == ("ant", "zebra")
    assert data.records[0].labels.tolist() == [1]
