"""The COCO instances layout: ``annotations/instances_<split>[year].json`` and a folder of images."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from nasperc.data.class_names import labels_by_name
from nasperc.data.coco_categories import read_categories
from nasperc.data.coco_fields import (
    REPAIR,
    check_unique,
    coco_bbox,
    crowd_flag,
    field,
    is_text,
    object_area,
    object_entry,
)
from nasperc.data.coco_masks import check_segmentation
from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.image import LONGEST_SIDE
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.report import Box, BoxCheck
from nasperc.errors import InputError, shown

# What file systems take.
LONGEST_NAME, LONGEST_PATH = 255, 2000
_NAME = re.compile(r"instances_(?P<split>.+?)(?P<year>\d{4})?\.json")


def coco_files(path: Path) -> dict[str, Path]:
    """Annotation file by split name. ``train`` and ``train2017`` both name ``instances_train2017.json``.

    Of several years the latest has the plain name; the others keep the name with their year.
    """
    found = [(_NAME.fullmatch(file.name), file) for file in sorted((path / "annotations").glob("*.json"))]
    files: dict[str, Path] = {}
    # No year sorts last, so that a file of just that name wins.
    for match, file in sorted(((m, f) for m, f in found if m), key=lambda each: each[0]["year"] or "~"):
        files[match["split"] + (match["year"] or "")] = file
        files[match["split"]] = file
    return files


def coco_splits(path: Path) -> tuple[str, ...]:
    """The names of the splits, each file once."""
    by_file = {file: split for split, file in sorted(coco_files(path).items(), reverse=True)}
    return tuple(sorted(by_file.values()))


def coco_classes(path: Path, split: str) -> tuple[str, ...]:
    """The sorted names of the categories of a split's file that are classes.

    Raises:
        InputError: as :func:`read_coco`.
    """
    file = _file(path, split)
    return tuple(sorted(read_categories(_load(file), file).names.values()))


def read_coco(
    path: Path,
    split: str,
    classes: tuple[str, ...] | None = None,
    *,
    strict: bool = False,
    masks: bool = False,
    rules: ImageRules = AS_STORED,
) -> DetectionDataset:
    """One split, images in the order of their ids.

    Without ``classes`` they are the sorted names of this file's categories. With ``masks`` segmentations are
    kept and checked; an object whose polygons all have less than three points is dropped with the degenerate
    boxes.

    Raises:
        InputError: a file that is missing or malformed, an unknown category or class, or, with ``strict``, a
            box that would be dropped or clipped.
    """
    file = _file(path, split)
    content = _load(file)
    categories, notes, left_out = read_categories(content, file)
    classes = tuple(sorted(categories.values())) if classes is None else classes
    label_of = labels_by_name(classes, file)
    label_by_id = {key: label_of.get(name) for key, name in categories.items()}
    images = _images(content, file)
    check = BoxCheck(strict, notes, left_out)
    objects: dict[int, _Objects] = {key: _Objects() for key in images}
    check_unique(
        (field(a, "id", int, file) for a in content["annotations"] if "id" in object_entry(a, file)),
        "annotation id",
        file,
    )
    for annotation in content["annotations"]:
        image_id = field(annotation, "image_id", int, file)
        category = field(annotation, "category_id", int, file)
        if image_id not in images:
            raise InputError(
                "an annotation must name a listed image", value=image_id, where=file, repair=REPAIR
            )
        if category not in categories:
            raise InputError("a category id must be listed", value=category, where=file, repair=REPAIR)
        label = label_by_id[category]
        if label is None:
            raise InputError(
                f"a class must be one of {', '.join(classes)}",
                value=f"'{categories[category]}'",
                where=file,
                repair="Mend the name, or list all classes in a file and pass it as --classes FILE.",
            )
        size = (images[image_id]["height"], images[image_id]["width"])
        box = coco_bbox(annotation, size, file, check)
        if box is None:
            continue
        segmentation = None
        if masks:
            segmentation = check_segmentation(annotation.get("segmentation"), size, file)
            if segmentation is None:
                check.drop("a polygon must have three points or more", "less", file)
                continue
        area = object_area(annotation, box, file, check)
        objects[image_id].add(box, label, crowd_flag(annotation, file), area, segmentation)
    folder = _image_folder(path, file, next(iter(images.values()))["file_name"])
    records = [objects[key].record(key, images[key], folder, masks) for key in sorted(images)]
    for record in records:
        if not record.file.is_file():
            raise InputError(
                "a listed image must exist",
                value="no such file",
                where=record.file,
                repair=f"Add it, or edit {file}.",
            )
    return DetectionDataset(path.resolve().name, split, classes, records, check.report(), rules)


class _Objects:
    """The objects of one image while a file is read."""

    __slots__ = ("areas", "boxes", "crowd", "labels", "segmentations")

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.labels: list[int] = []
        self.crowd: list[bool] = []
        self.areas: list[float] = []
        self.segmentations: list[Any] = []

    def add(self, box: Box, label: int, crowd: bool, area: float, segmentation: Any) -> None:
        self.boxes.append(box)
        self.labels.append(label)
        self.crowd.append(crowd)
        self.areas.append(area)
        self.segmentations.append(segmentation)

    def record(self, image_id: int, image: dict[str, Any], folder: Path, masks: bool) -> Record:
        return Record(
            image_id=image_id,
            file=folder / image["file_name"],
            size=(image["height"], image["width"]),
            boxes=np.asarray(self.boxes, np.float32).reshape(-1, 4),
            labels=np.asarray(self.labels, np.int64),
            crowd=np.asarray(self.crowd, bool),
            areas=np.asarray(self.areas, np.float64),
            segmentations=tuple(self.segmentations) if masks else None,
        )


def _file(path: Path, split: str) -> Path:
    files = coco_files(path)
    if split not in files:
        raise InputError(
            "a COCO split must have a file annotations/instances_<split>[year].json",
            value=f"no file for '{split}'",
            where=path,
            repair=f"Splits found: {', '.join(coco_splits(path)) or 'none'}.",
        )
    return files[split]


def _load(file: Path) -> dict[str, Any]:
    try:
        # Not nasperc.plain_files: these may be half a gigabyte, and every field is checked where it is taken.
        content = json.loads(file.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "a COCO annotation file must be well-formed JSON in UTF-8",
            value=error,
            where=file,
            repair=REPAIR,
        ) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"a COCO file must have a list '{key}'", value="none", where=file, repair=REPAIR)
    return content


def _images(content: dict[str, Any], file: Path) -> dict[int, dict[str, Any]]:
    images = {}
    for entry in content["images"]:
        images[field(entry, "id", int, file)] = entry
        field(entry, "file_name", str, file)
        sides = field(entry, "height", int, file), field(entry, "width", int, file)
        if not 0 < min(sides) <= max(sides) <= LONGEST_SIDE:
            raise InputError(
                f"an image's width and height must be from 1 to {LONGEST_SIDE}",
                value=entry,
                where=file,
                repair=REPAIR,
            )
        name = PurePath(entry["file_name"])
        too_long = (
            any(len(part) > LONGEST_NAME for part in name.parts) or len(entry["file_name"]) > LONGEST_PATH
        )
        if too_long or name.is_absolute() or ".." in name.parts or not is_text(entry["file_name"]):
            raise InputError(
                "an image's file name must lead to a place inside the data set",
                value=shown(entry["file_name"]),
                where=file,
                repair="Move or link the image there, and name it so.",
            )
    if not images:
        raise InputError("a COCO file must list images", value="none", where=file, repair=REPAIR)
    check_unique((entry["id"] for entry in content["images"]), "image id", file)
    check_unique((entry["file_name"] for entry in content["images"]), "file name", file)
    return images


def _image_folder(path: Path, file: Path, first: str) -> Path:
    match = _NAME.fullmatch(file.name)
    assert match is not None
    split, year = match["split"], match["year"] or ""
    names = dict.fromkeys((split + year, split, f"images/{split}{year}", f"images/{split}", "images", "."))
    for name in names:
        if (path / name / first).is_file():
            return path / name
    raise InputError(
        f"images must lie in one of {', '.join(names)}",
        value=f"'{first}' in none of them",
        where=path,
        repair="Move or link the images there.",
    )
