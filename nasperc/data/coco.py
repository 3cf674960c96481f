"""The COCO instances layout: ``annotations/instances_<split>[year].json`` and a folder of images."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any, TypeGuard

import numpy as np

from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.image import LONGEST_SIDE
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.report import Box, BoxCheck
from nasperc.data.segmentation import check_segmentation
from nasperc.errors import InputError, shown

_REPAIR = "Mend the annotation file."
_LARGEST = 1e15
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
    """The sorted names of the categories that a split's file lists.

    Raises:
        InputError: as :func:`read_coco`.
    """
    file = _file(path, split)
    return tuple(sorted(_categories(_load(file), file).values()))


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
    categories = _categories(content, file)
    classes = tuple(sorted(categories.values())) if classes is None else classes
    label_of = {name: label for label, name in enumerate(classes)}
    label_by_id = {key: label_of.get(name) for key, name in categories.items()}
    images = _images(content, file)
    check = BoxCheck(strict)
    objects: dict[int, _Objects] = {key: _Objects() for key in images}
    _unique(
        (_get(a, "id", int, file) for a in content["annotations"] if "id" in _entry(a, file)),
        "annotation id",
        file,
    )
    for annotation in content["annotations"]:
        image_id = _get(annotation, "image_id", int, file)
        category = _get(annotation, "category_id", int, file)
        if image_id not in images:
            raise InputError(
                "an annotation must name a listed image", value=image_id, where=file, repair=_REPAIR
            )
        if category not in categories:
            raise InputError("a category id must be listed", value=category, where=file, repair=_REPAIR)
        label = label_by_id[category]
        if label is None:
            raise InputError(
                f"a class must be one of {', '.join(classes)}",
                value=f"'{categories[category]}'",
                where=file,
                repair="Mend the name, or list all classes in a file and pass it as --classes FILE.",
            )
        size = (images[image_id]["height"], images[image_id]["width"])
        box = _box(annotation, size, file, check)
        if box is None:
            continue
        segmentation = None
        if masks:
            segmentation = check_segmentation(annotation.get("segmentation"), size, file)
            if segmentation is None:
                check.drop("a polygon must have three points or more", "less", file)
                continue
        objects[image_id].add(box, label, annotation, segmentation)
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

    def add(self, box: Box, label: int, annotation: dict[str, Any], segmentation: Any) -> None:
        area = annotation.get("area")
        self.boxes.append(box)
        self.labels.append(label)
        self.crowd.append(bool(annotation.get("iscrowd", 0)))
        self.areas.append(
            float(area) if _is_number(area) and math.isfinite(area) else (box[2] - box[0]) * (box[3] - box[1])
        )
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
            repair=_REPAIR,
        ) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(
                f"a COCO file must have a list '{key}'", value="none", where=file, repair=_REPAIR
            )
    return content


def _categories(content: dict[str, Any], file: Path) -> dict[int, str]:
    entries = content["categories"]
    categories = {_get(entry, "id", int, file): _get(entry, "name", str, file) for entry in entries}
    _unique((entry["id"] for entry in entries), "category id", file)
    _unique((entry["name"] for entry in entries), "category name", file)
    for name in categories.values():
        if not _is_text(name):
            raise InputError("a category name must be text", value=repr(name), where=file, repair=_REPAIR)
    if not categories:
        raise InputError("a COCO file must list categories", value="none", where=file, repair=_REPAIR)
    return categories


def _images(content: dict[str, Any], file: Path) -> dict[int, dict[str, Any]]:
    images = {}
    for entry in content["images"]:
        images[_get(entry, "id", int, file)] = entry
        _get(entry, "file_name", str, file)
        sides = _get(entry, "height", int, file), _get(entry, "width", int, file)
        if not 0 < min(sides) <= max(sides) <= LONGEST_SIDE:
            raise InputError(
                f"an image's width and height must be from 1 to {LONGEST_SIDE}",
                value=entry,
                where=file,
                repair=_REPAIR,
            )
        name = PurePath(entry["file_name"])
        too_long = (
            any(len(part) > LONGEST_NAME for part in name.parts) or len(entry["file_name"]) > LONGEST_PATH
        )
        if too_long or name.is_absolute() or ".." in name.parts or not _is_text(entry["file_name"]):
            raise InputError(
                "an image's file name must lead to a place inside the data set",
                value=shown(entry["file_name"]),
                where=file,
                repair="Move or link the image there, and name it so.",
            )
    if not images:
        raise InputError("a COCO file must list images", value="none", where=file, repair=_REPAIR)
    _unique((entry["id"] for entry in content["images"]), "image id", file)
    _unique((entry["file_name"] for entry in content["images"]), "file name", file)
    return images


def _box(annotation: dict[str, Any], size: tuple[int, int], file: Path, check: BoxCheck) -> Box | None:
    bbox = _get(annotation, "bbox", list, file)
    if len(bbox) != 4 or not all(_is_number(x) for x in bbox):
        raise InputError("a COCO bbox must be [x, y, width, height]", value=bbox, where=file, repair=_REPAIR)
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        check.drop("a COCO box must have width > 0 and height > 0", bbox, file)
        return None
    return check.clip((x, y, x + width, y + height), size, file)


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


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that fits a float; JSON has longer ones."""
    return isinstance(value, float) or (type(value) is int and abs(value) < _LARGEST)


def _is_text(name: str) -> bool:
    """Whether it can be the name of a file or of a class: JSON can write halves of characters."""
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def _entry(entry: Any, file: Path) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InputError("a COCO entry must be an object", value=shown(entry), where=file, repair=_REPAIR)
    return entry


def _get(entry: Any, key: str, kind: type, file: Path) -> Any:
    value = _entry(entry, file).get(key)
    # bool is an int to Python, but no id.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(
            f"a COCO entry must have '{key}' ({kind.__name__})",
            value=shown(entry),
            where=file,
            repair=_REPAIR,
        )
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InputError(
            f"'{key}' of a COCO entry must have at most 64 bits", value=value, where=file, repair=_REPAIR
        )
    return value


def _unique(values: Iterable[Any], what: str, file: Path) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise InputError(
                f"a COCO {what} must be unique", value=f"{value!r} twice", where=file, repair=_REPAIR
            )
        seen.add(value)
