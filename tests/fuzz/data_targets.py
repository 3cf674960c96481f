"""Readers of data sets."""

from __future__ import annotations

import json
from pathlib import Path

from image_targets import picture
from target import Read, dump


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
        for index in range(len(dataset)):
            dataset[index]

    return read
