"""The COCO panoptic layout, read as instances: ``annotations/panoptic_<split>[year].json`` and a folder of that name
with a map of segments an image, whose things are the objects."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nasperc.data.coco_categories import read_categories
from nasperc.data.coco_fields import REPAIR, check_unique, field, object_entry
from nasperc.data.coco_files import (
    annotation_file,
    annotation_files,
    check_file_name,
    image_folder,
    listed_images,
    load_content,
    split_names,
)
from nasperc.data.coco_objects import CocoSplit, read_objects
from nasperc.data.dataset import DetectionDataset
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.segment_map import LARGEST_ID, VOID, read_segments
from nasperc.data.typed_values import read_flag
from nasperc.errors import InputError, shown

panoptic_files = partial(annotation_files, kind="panoptic")
panoptic_splits = partial(split_names, kind="panoptic")


def panoptic_classes(path: Path, split: str) -> tuple[str, ...]:
    """The sorted names of the things of a split's file.

    Raises:
        InputError: as :func:`read_panoptic`.
    """
    file = annotation_file(path, split, "panoptic")
    return tuple(sorted(read_categories(_things(path, load_content(file), file)[0], file).names.values()))


def read_panoptic(
    path: Path,
    split: str,
    classes: tuple[str, ...] | None = None,
    *,
    strict: bool = False,
    masks: bool = False,
    rules: ImageRules = AS_STORED,
) -> DetectionDataset:
    """One split, images in the order of their ids; its objects are the segments of things.

    Without ``classes`` they are the sorted names of this file's things. Boxes are those that are stated, else those
    around the segments. With ``masks`` the maps are read with each sample.

    Raises:
        InputError: a file that is missing or malformed, an unknown category or class, or, with ``strict``, a box that
            would be dropped or clipped.
    """
    file = annotation_file(path, split, "panoptic")
    content, maps = _things(path, load_content(file), file)

    def segment_of(annotation: dict[str, Any], size: tuple[int, int]) -> int:
        segment: int = annotation["segment"]
        return segment

    found = CocoSplit(path, split, file, content, partial(image_folder, path, split, file=file), maps)
    return read_objects(found, classes, segment_of if masks else None, strict=strict, rules=rules)


def _things(path: Path, content: dict[str, Any], file: Path) -> tuple[dict[str, Any], dict[int, Path]]:
    """The lists of a panoptic file as those of one of instances, and the map of each annotated image by its id."""
    is_thing = {field(each, "id", int, file): _is_thing(each, file) for each in content["categories"]}
    images = listed_images(content, file)
    folder = _map_folder(path, content["annotations"], file)
    maps: dict[int, Path] = {}
    objects: list[dict[str, Any]] = []
    for annotation in content["annotations"]:
        image_id = field(annotation, "image_id", int, file)
        if image_id not in images or image_id in maps:
            raise InputError(
                "a panoptic annotation must be the one of a listed image",
                value=image_id,
                where=file,
                repair=REPAIR,
            )
        maps[image_id] = folder / check_file_name(annotation, file)
        segments = field(annotation, "segments_info", list, file)
        check_unique((_segment_id(each, file) for each in segments), f"segment id of image {image_id}", file)
        for segment in segments:
            # One of an unknown category is passed on: the reader of objects says so.
            if is_thing.get(field(segment, "category_id", int, file), True):
                image = images[image_id]
                objects.append(_object(segment, image_id, maps[image_id], (image["height"], image["width"])))
    things = [each for each in content["categories"] if is_thing[each["id"]]]
    return {"images": content["images"], "annotations": objects, "categories": things}, maps


def _object(segment: Mapping[str, Any], image_id: int, file: Path, size: tuple[int, int]) -> dict[str, Any]:
    """A segment as an annotation of the instances format."""
    stated = {key: value for key, value in segment.items() if key != "id"}
    if segment.get("bbox") is None:
        stated["bbox"] = _box_around(file, segment["id"], size)
    return {**stated, "image_id": image_id, "segment": segment["id"]}


def _box_around(file: Path, segment: int, size: tuple[int, int]) -> list[float]:
    """[x, y, width, height] of a segment, 0 where it has no pixel."""
    mask = read_segments(file, size) == segment
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0.0, 0.0, 0.0, 0.0]
    x, y = float(columns[0]), float(rows[0])
    return [x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y]


def _is_thing(category: Any, file: Path) -> bool:
    stated = object_entry(category, file).get("isthing")
    flag = read_flag(stated)
    if flag is None:
        raise InputError(
            f"'isthing' of category {category['id']} must be 0 or 1",
            value=shown(stated),
            where=file,
            repair=REPAIR,
        )
    return flag


def _segment_id(segment: Any, file: Path) -> int:
    number: int = field(segment, "id", int, file)
    if not VOID < number <= LARGEST_ID:
        raise InputError(
            f"the id of a segment must be from 1 to {LARGEST_ID}", value=number, where=file, repair=REPAIR
        )
    return number


def _map_folder(path: Path, annotations: list[Any], file: Path) -> Path:
    """The folder of the file's name, beside it or, where the first map is not there, in the data set itself."""
    beside = file.with_suffix("")
    inner = path / file.stem
    if annotations and not (beside / check_file_name(annotations[0], file)).is_file() and inner.is_dir():
        return inner
    return beside
