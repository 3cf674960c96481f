"""The segments that a panoptic file lists, read to a data set: what the layouts have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from nasperc.data.class_names import labels_by_name
from nasperc.data.coco_categories import Categories, read_categories
from nasperc.data.coco_fields import REPAIR, crowd_flag
from nasperc.data.coco_objects import CocoSplit, read_objects
from nasperc.data.dataset import Record
from nasperc.data.image_rules import ImageRules
from nasperc.data.panoptic import PanopticClasses, PanopticDataset, PanopticRecord, Segments
from nasperc.data.panoptic_file import PanopticFile
from nasperc.errors import InputError


def classes_in(found: PanopticFile) -> PanopticClasses:
    """The sorted names of the things and of the stuff of a file.

    Raises:
        InputError: as :func:`read_segments_of`.
    """
    things, stuff = _categories(found)
    return PanopticClasses(tuple(sorted(things.names.values())), tuple(sorted(stuff.names.values())))


def read_segments_of(
    found: PanopticFile,
    split: CocoSplit,
    classes: PanopticClasses | None,
    *,
    strict: bool,
    rules: ImageRules,
    keys: Mapping[int, str] | None = None,
) -> PanopticDataset:
    """The data set of a split.

    Args:
        found: the file of its segments.
        split: its things as a split of instances.
        classes: None: the sorted names of the file's categories.
        strict: boxes that would be dropped or clipped are errors.
        rules: how images are read.
        keys: what the file calls an image, by its id; None: that.

    Raises:
        InputError: as :func:`nasperc.data.coco_panoptic.read_coco_panoptic`.
    """
    things, stuff = _categories(found)
    if classes is None:
        classes = classes_in(found)
    objects = read_objects(
        split, classes.things, lambda each, size: each["segment"], strict=strict, rules=rules
    )
    label_by_id = _labels(things, classes.things, 0, found) | _labels(
        stuff, classes.stuff, len(classes.things), found
    )
    records = [
        _record(each, label_by_id, found, each.image_id if keys is None else keys[each.image_id])
        for each in objects.records
    ]
    id_by_label = {label: key for key, label in label_by_id.items()}
    known = all(label in id_by_label for label in range(len(classes.names)))
    return PanopticDataset(
        objects.name,
        objects.split,
        classes,
        records,
        replace(objects.report, notes=objects.report.notes + stuff.notes),
        rules,
        category_ids=tuple(id_by_label[label] for label in range(len(classes.names))) if known else None,
    )


def _categories(found: PanopticFile) -> tuple[Categories, Categories]:
    """Of things, and of stuff.

    Raises:
        InputError: there are none, or a name is of both.
    """
    ids = {each["id"] for each in found.stuff}
    lists: dict[str, list[dict[str, Any]]] = {"things": [], "stuff": []}
    for segments in found.segments.values():
        for each in segments:
            lists["stuff" if each["category_id"] in ids else "things"].append(each)
    read = []
    for what, entries in (("things", found.things), ("stuff", found.stuff)):
        if not entries:
            raise InputError(
                "a panoptic data set must have categories of things and of stuff",
                value=f"no {what}",
                where=found.file,
                repair="Mend 'isthing' of its categories, or use it for --task instances.",
            )
        read.append(read_categories({"categories": entries, "annotations": lists[what]}, found.file))
    things, stuff = read
    both = sorted(set(things.names.values()) & set(stuff.names.values()))
    if both:
        raise InputError(
            "a category must be of things or of stuff",
            value=f"'{both[0]}' of both",
            where=found.file,
            repair=REPAIR,
        )
    return things, stuff


def _labels(
    categories: Categories, classes: tuple[str, ...], first: int, found: PanopticFile
) -> dict[int, int]:
    """Label by id of the categories that are classes; ``first``: the label of the first class."""
    label_of = labels_by_name(classes, found.file)
    return {key: first + label_of[name] for key, name in categories.names.items() if name in label_of}


def _record(
    record: Record, label_by_id: Mapping[int, int], found: PanopticFile, key: int | str
) -> PanopticRecord:
    listed = found.segments.get(record.image_id, [])
    labels = [_label(each, label_by_id, found) for each in listed]
    segments = Segments(
        np.array([each["id"] for each in listed], np.int64),
        np.array(labels, np.int64),
        np.array([crowd_flag(each, found.file) for each in listed], bool),
    )
    of_objects = {each.name: getattr(record, each.name) for each in fields(record)}
    return PanopticRecord(**of_objects, key=key, segments=segments)


def _label(segment: Mapping[str, Any], label_by_id: Mapping[int, int], found: PanopticFile) -> int:
    category = segment["category_id"]
    if category not in label_by_id:
        names = {each["id"]: each["name"] for each in (*found.things, *found.stuff)}
        raise InputError(
            "the category of a segment must be one of the classes",
            value=f"'{names[category]}'",
            where=found.file,
            repair="Mend the name, or train on all of them.",
        )
    return label_by_id[category]
