"""What a file in COCO's panoptic format says: the segments of each image, and the maps that they are drawn in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasperc.data.coco_fields import REPAIR, check_unique, field, object_entry
from nasperc.data.coco_files import check_file_name, listed_images
from nasperc.data.segment_map import LARGEST_ID, VOID, read_segments
from nasperc.data.typed_values import read_flag
from nasperc.errors import InputError, shown


@dataclass(frozen=True)
class PanopticFile:
    """``file``: its path. ``images``: the listed ones. ``things``, ``stuff``: the entries of their categories.
    ``segments``: by image id, as they are listed. ``maps``: by image id; an image that is not annotated is in neither.
    """

    file: Path
    images: list[Any]
    things: list[Any]
    stuff: list[Any]
    segments: dict[int, list[dict[str, Any]]]
    maps: dict[int, Path]

    def instances(self) -> dict[str, Any]:
        """The segments of things, and of unknown categories, in the instances format; their boxes, where none are
        stated, are those around them.

        Raises:
            InputError: a map that is needed for it cannot be read.
        """
        stuff = {each["id"] for each in self.stuff}
        sizes = {each["id"]: (each["height"], each["width"]) for each in self.images}
        objects = [
            _object(segment, image_id, self.maps[image_id], sizes[image_id])
            for image_id, segments in self.segments.items()
            for segment in segments
            # One of an unknown category is passed on: the reader of objects says so.
            if segment["category_id"] not in stuff
        ]
        return {"images": self.images, "annotations": objects, "categories": self.things}


def parse_panoptic(content: dict[str, Any], file: Path, inner: Path) -> PanopticFile:
    """Check what every panoptic file must have.

    Args:
        content: of the file, its lists there.
        file: it; the folder of its maps has its name and lies beside it.
        inner: the folder where the maps are looked for if they are not there.

    Raises:
        InputError: a category is neither thing nor stuff, or both; an annotation is of no listed image, or a second one
            of it; a segment has no id, or one twice; a file name leads out of the folder.
    """
    entries = content["categories"]
    is_thing = [_is_thing(each, file) for each in entries]
    check_unique((field(each, "id", int, file) for each in entries), "category id", file)
    images = listed_images(content, file)
    folder = _map_folder(file.with_suffix(""), inner, content["annotations"], file)
    maps: dict[int, Path] = {}
    segments: dict[int, list[dict[str, Any]]] = {}
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
        segments[image_id] = field(annotation, "segments_info", list, file)
        check_unique(
            (_segment_id(each, file) for each in segments[image_id]), f"segment id of image {image_id}", file
        )
        for segment in segments[image_id]:
            field(segment, "category_id", int, file)
    return PanopticFile(
        file,
        content["images"],
        [each for each, thing in zip(entries, is_thing, strict=True) if thing],
        [each for each, thing in zip(entries, is_thing, strict=True) if not thing],
        segments,
        maps,
    )


def _object(segment: Mapping[str, Any], image_id: int, file: Path, size: tuple[int, int]) -> dict[str, Any]:
    """A segment as an annotation of the instances format."""
    stated = {key: value for key, value in segment.items() if key != "id"}
    if segment.get("bbox") is None:
        stated["bbox"] = segment_box(read_segments(file, size) == segment["id"])
    return {**stated, "image_id": image_id, "segment": segment["id"]}


def segment_box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] of a segment (H, W), 0 where it has no pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0, 0, 0, 0]
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def _is_thing(category: Any, file: Path) -> bool:
    stated = object_entry(category, file).get("isthing")
    flag = read_flag(stated)
    if flag is None:
        raise InputError(
            f"'isthing' of category {shown(category.get('id'))} must be 0 or 1",
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


def _map_folder(beside: Path, inner: Path, annotations: list[Any], file: Path) -> Path:
    if annotations and not (beside / check_file_name(annotations[0], file)).is_file() and inner.is_dir():
        return inner
    return beside
