"""Readers of data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from image_targets import picture
from target import Read, dump

if TYPE_CHECKING:
    from nasperc.data.dataset import DetectionDataset


def open_voc(folder: Path) -> Read:
    from nasperc.data.formats import open_dataset

    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (folder / "JPEGImages" / "a.png").write_bytes(picture("PNG"))

    def read(data: bytes) -> None:
        (folder / "Annotations" / "a.xml").write_bytes(data)
        open_dataset(folder, "train").fingerprint()

    return read


VOC = (
    b"<annotation><filename>a.png</filename><size><width>8</width><height>6</height><depth>3</depth></size>"
    b"<object><name>cat</name><difficult>True</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax>"
    b"<ymax>4</ymax></bndbox></object><object><name>dog</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax>"
    b"<ymax>4</ymax></bndbox><part><name>head</name></part></object></annotation>"
)


def open_voc_list(folder: Path) -> Read:
    from nasperc.data.formats import open_dataset

    read_annotation = open_voc(folder)
    (folder / "JPEGImages" / "b.jpg").write_bytes(picture("JPEG"))
    for stem in "ab":
        (folder / "Annotations" / f"{stem}.xml").write_bytes(VOC)
    del read_annotation

    def read(data: bytes) -> None:
        (folder / "ImageSets" / "Main" / "train.txt").write_bytes(data)
        open_dataset(folder, "train")

    return read


def open_classes(folder: Path) -> Read:
    from nasperc.data.classes_file import read_classes_file

    def read(data: bytes) -> None:
        (folder / "classes.txt").write_bytes(data)
        read_classes_file(folder / "classes.txt")

    return read


def coco_seeds() -> list[bytes]:
    polygon = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0]]
    runs = {"size": [6, 8], "counts": [10, 8, 30]}
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 6, "width": 8},
            {"id": 2, "file_name": "sub/b.png", "height": 6, "width": 8},
        ],
        "categories": [
            {"id": 1, "name": "cat ", "supercategory": "pets"},
            {"id": 7, "name": "dog", "supercategory": "pets"},
            {"id": 8, "name": "dog", "supercategory": "pets"},
            {"id": 0, "name": "pets", "supercategory": "none"},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 7,
                "bbox": [1, 1, 4, 3],
                "area": "6",
                "iscrowd": "0",
                "segmentation": polygon,
            },
            {
                "id": 2,
                "image_id": 2,
                "category_id": 1,
                "bbox": [0.5, 0, 20, 3.5],
                "iscrowd": 1,
                "area": -1,
                "segmentation": runs,
            },
            {
                "id": 3,
                "image_id": 2,
                "category_id": 1,
                "bbox": [1, 1, 2, 2],
                "segmentation": {"size": [6, 8], "counts": "`1"},
            },
        ],
    }
    return [dump(content)]


def open_coco(folder: Path) -> Read:
    from nasperc.data.coco import read_coco

    for place in ("annotations", "train/sub"):
        (folder / place).mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        (folder / "train" / name).write_bytes(picture("PNG"))

    def read(data: bytes) -> None:
        (folder / "annotations" / "instances_train.json").write_bytes(data)
        dataset = read_coco(folder, "train", masks=True)
        dataset.fingerprint()
        json.dumps(dataset.coco_ground_truth())
        _look_at_masks(dataset)

    return read


def _look_at_masks(dataset: DetectionDataset) -> None:
    for index in range(len(dataset)):
        instances = dataset[index].instances
        instances.masks.bitmaps()
        instances.masks.within(instances.boxes, 14)


def lvis_seeds() -> list[bytes]:
    content = json.loads(coco_seeds()[0])
    content["categories"] = content["categories"][1:3]
    content["annotations"] = content["annotations"][:1]
    for image in content["images"]:
        image |= {"neg_category_ids": [8], "not_exhaustive_category_ids": [7]}
    test_server = {
        "images": [dict(image) for image in content["images"]],
        "categories": content["categories"],
    }
    for image in test_server["images"]:
        image["coco_url"] = f"http://images.org/train/{image.pop('file_name')}"
    return [dump(content), dump(test_server)]


def open_other_annotations(folder: Path) -> Read:
    from nasperc.data.formats import open_dataset

    open_coco(folder)
    own = json.loads(coco_seeds()[0])
    own["annotations"] = []
    own["categories"] = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]
    (folder / "annotations" / "instances_train.json").write_bytes(dump(own))

    def read(data: bytes) -> None:
        (folder / "other.json").write_bytes(data)
        dataset = open_dataset(folder, "train", annotations=folder / "other.json", masks=True)
        json.dumps(dataset.coco_ground_truth())
        _look_at_masks(dataset)

    return read


def panoptic_seeds() -> list[bytes]:
    content = json.loads(coco_seeds()[0])
    segments = [
        {"id": 5, "category_id": 1, "bbox": [1, 1, 4, 3], "area": 12, "iscrowd": 0},
        {"id": 66_000, "category_id": 7, "area": "9", "iscrowd": "1"},
        {"id": 300, "category_id": 8, "bbox": [0, 0, 8, 1], "area": 8},
    ]
    things = [{"isthing": 1}, {"isthing": "1"}, {"isthing": 0}]
    categories = [
        {**each, "name": f"{each['name']}{k}", **things[k]}
        for k, each in enumerate(content["categories"][:3])
    ]
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": segments}
    return [dump({**content, "categories": categories, "annotations": [annotation]})]


def open_panoptic(folder: Path) -> Read:
    import numpy as np
    from PIL import Image

    from nasperc.data.formats import open_dataset

    open_coco(folder)
    (folder / "annotations" / "panoptic_train").mkdir()
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[1:4, 1:5], pixels[4:, 5:], pixels[0] = (5, 0, 0), (208, 1, 1), (44, 1, 0)
    Image.fromarray(pixels).save(folder / "annotations" / "panoptic_train" / "a.png")

    def read(data: bytes) -> None:
        (folder / "annotations" / "panoptic_train.json").write_bytes(data)
        dataset = open_dataset(folder, "train", format="coco_panoptic", masks=True)
        dataset.fingerprint()
        json.dumps(dataset.coco_ground_truth())
        _look_at_masks(dataset)

    return read


def open_stuff(folder: Path) -> Read:
    from nasperc.data.panoptic_formats import open_panoptic as open_whole

    open_panoptic(folder)

    def read(data: bytes) -> None:
        (folder / "annotations" / "panoptic_train.json").write_bytes(data)
        dataset = open_whole(folder, "train", format="coco_panoptic")
        dataset.fingerprint()
        for index in range(len(dataset)):
            sample = dataset[index]
            assert sample.semantic is not None
            assert len(dataset.truth(index, sample).areas()) == len(dataset.records[index].segments.ids)

    return read


def segment_map_seeds() -> list[bytes]:
    import io

    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[1:4, 1:5], pixels[4:, 5:], pixels[0] = (5, 0, 0), (208, 1, 1), (44, 1, 0)
    Image.fromarray(pixels).save(stream, "PNG")
    return [stream.getvalue()]


def open_segment_map(folder: Path) -> Read:
    from nasperc.data.panoptic_formats import open_panoptic as open_whole

    open_panoptic(folder)
    (folder / "annotations" / "panoptic_train.json").write_bytes(panoptic_seeds()[0])

    def read(data: bytes) -> None:
        (folder / "annotations" / "panoptic_train" / "a.png").write_bytes(data)
        dataset = open_whole(folder, "train", format="coco_panoptic")
        assert dataset[0].panoptic.max() == 3

    return read


def cityscapes_panoptic_seeds() -> list[bytes]:
    from nasperc.data.cityscapes import TRAIN_IDS
    from nasperc.data.cityscapes_panoptic import CITYSCAPES_PANOPTIC

    categories = [
        {"id": key, "name": name, "isthing": int(name in CITYSCAPES_PANOPTIC.things)}
        for key, name in TRAIN_IDS.items()
    ]
    segments = [
        {"id": 7, "category_id": 7, "bbox": [0, 0, 8, 1], "area": 8, "iscrowd": 0},
        {"id": 26_001, "category_id": 26, "area": 4, "iscrowd": 0},
    ]
    image = {"id": "ulm_000001_000019", "height": 6, "width": 8, "file_name": "a.png"}
    annotation = {"image_id": "ulm_000001_000019", "file_name": "a.png", "segments_info": segments}
    return [dump({"images": [image], "annotations": [annotation], "categories": categories})]


def open_cityscapes_panoptic(folder: Path) -> Read:
    import numpy as np

    from nasperc.data.panoptic_formats import open_panoptic as open_whole
    from nasperc.data.segment_map import write_segments

    images, maps = folder / "leftImg8bit/train/ulm", folder / "gtFine/cityscapes_panoptic_train"
    for each in (images, maps):
        each.mkdir(parents=True)
    (images / "ulm_000001_000019_leftImg8bit.png").write_bytes(picture("PNG"))
    ids = np.zeros((6, 8), np.int64)
    ids[0], ids[2:4, 1:3] = 7, 26_001
    write_segments(maps / "a.png", ids)

    def read(data: bytes) -> None:
        (folder / "gtFine/cityscapes_panoptic_train.json").write_bytes(data)
        dataset = open_whole(folder, "train", format="cityscapes")
        for index in range(len(dataset)):
            assert dataset[index].semantic is not None

    return read


def open_map_of_objects(folder: Path) -> Read:
    from nasperc.data.formats import open_dataset

    open_voc(folder)
    (folder / "Annotations" / "a.xml").write_bytes(VOC)
    (folder / "SegmentationObject").mkdir()

    def read(data: bytes) -> None:
        (folder / "SegmentationObject" / "a.png").write_bytes(data)
        _look_at_masks(open_dataset(folder, "train", masks=True))

    return read
