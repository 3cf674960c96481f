"""The COCO instances layout: ``annotations/instances_<split>[year].json`` and a folder of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nasperc.data.coco_categories import read_categories
from nasperc.data.coco_fields import check_unique, field, object_entry
from nasperc.data.coco_files import (
    annotation_file,
    annotation_files,
    image_folder,
    load_content,
    split_names,
)
from nasperc.data.coco_masks import check_segmentation
from nasperc.data.coco_objects import CocoSplit, read_objects
from nasperc.data.dataset import DetectionDataset
from nasperc.data.image_rules import AS_STORED, ImageRules

coco_files = partial(annotation_files, kind="instances")
coco_splits = partial(split_names, kind="instances")


def coco_classes(path: Path, split: str) -> tuple[str, ...]:
    """The sorted names of the categories of a split's file that are classes.

    Raises:
        InputError: as :func:`read_coco`.
    """
    file = annotation_file(path, split, "instances")
    return tuple(sorted(read_categories(load_content(file), file).names.values()))


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
    kept and checked; an object whose polygons all have less than three points, or whose run lengths have no pixel,
    is dropped and counted.

    Raises:
        InputError: a file that is missing or malformed, an unknown category or class, an object without a mask where
            they are asked for, or, with ``strict``, an object that would be dropped or clipped.
    """
    file = annotation_file(path, split, "instances")
    found = CocoSplit(path, split, file, load_content(file), partial(image_folder, path, split, file=file))
    return read_instances(found, classes, strict=strict, masks=masks, rules=rules)


def read_instances(
    split: CocoSplit, classes: tuple[str, ...] | None, *, strict: bool, masks: bool, rules: ImageRules
) -> DetectionDataset:
    """The data set of a split whose annotations are in the instances format, see :func:`read_coco`.

    Raises:
        InputError: as :func:`read_coco`.
    """
    file = split.file
    check_unique(
        (field(a, "id", int, file) for a in split.content["annotations"] if "id" in object_entry(a, file)),
        "annotation id",
        file,
    )

    def segmentation_of(annotation: dict[str, Any], size: tuple[int, int]) -> Any | None:
        return check_segmentation(annotation.get("segmentation"), size, file)

    return read_objects(split, classes, segmentation_of if masks else None, strict=strict, rules=rules)
