"""The objects that a COCO file lists, read to a data set: what instances and panoptic files have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasperc.data.class_names import labels_by_name
from nasperc.data.coco_categories import read_categories
from nasperc.data.coco_fields import REPAIR, coco_bbox, crowd_flag, field, object_area
from nasperc.data.coco_files import listed_images
from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.federated import FederatedLabels, read_federated_labels
from nasperc.data.image_rules import ImageRules
from nasperc.data.report import Box, BoxCheck
from nasperc.errors import InputError

# An annotation and the (H, W) of its image -> what a record keeps of its mask; None: there is nothing of it.
SegmentationOf = Callable[[dict[str, Any], tuple[int, int]], Any | None]


@dataclass(frozen=True)
class CocoSplit:
    """A split of a data set that lies at ``path``, and the ``file`` of its annotations.

    ``content``: the lists ``images``, ``categories``, and ``annotations``, of an object each. ``folder``: gives, for
    the name of one image, the folder that all lie in. ``maps``: by image id, the maps whose segments the objects are.
    """

    path: Path
    name: str
    file: Path
    content: dict[str, Any]
    folder: Callable[[str], Path]
    maps: Mapping[int, Path] | None = None


def read_objects(
    split: CocoSplit,
    classes: tuple[str, ...] | None,
    segmentation_of: SegmentationOf | None,
    *,
    strict: bool,
    rules: ImageRules,
) -> DetectionDataset:
    """The data set of a split, images in the order of their ids.

    Args:
        split: what was found.
        classes: names in the order of the labels; None: the sorted names of the file's categories.
        segmentation_of: None: masks were not asked for.
        strict: boxes that would be dropped or clipped are errors.
        rules: how images are read.

    Raises:
        InputError: as :func:`nasperc.data.coco.read_coco`.
    """
    file = split.file
    categories, notes, left_out = read_categories(split.content, file)
    classes = tuple(sorted(categories.values())) if classes is None else classes
    label_of = labels_by_name(classes, file)
    label_by_id = {key: label_of.get(name) for key, name in categories.items()}
    images = listed_images(split.content, file)
    check = BoxCheck(strict, notes, left_out)
    objects: dict[int, _Objects] = {key: _Objects() for key in images}
    for annotation in split.content["annotations"]:
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
        size = _size(images[image_id])
        box = coco_bbox(annotation, size, file, check)
        if box is None:
            continue
        segmentation = None
        if segmentation_of is not None:
            segmentation = segmentation_of(annotation, size)
            if segmentation is None:
                check.drop_without_mask("a mask must have a pixel, and a polygon three points", "less", file)
                continue
        area = object_area(annotation, box, file, check)
        objects[image_id].add(box, label, crowd_flag(annotation, file), area, segmentation)
    masks = segmentation_of is not None
    listed = dict.fromkeys(entry["id"] for entry in split.content["categories"]) | label_by_id
    federated = read_federated_labels(images, listed, file)
    folder = split.folder(next(iter(images.values()))["file_name"])
    maps = split.maps if masks and split.maps is not None else {}
    records = [
        objects[key].record(images[key], folder, masks, maps.get(key), federated.get(key))
        for key in sorted(images)
    ]
    for record in records:
        for needed, what in ((record.file, "image"), (record.segment_map, "map of segments")):
            if needed is not None and not needed.is_file():
                raise InputError(
                    f"a listed {what} must exist",
                    value="no such file",
                    where=needed,
                    repair=f"Add it, or edit {file}.",
                )
    id_by_label = {label: key for key, label in label_by_id.items()}
    known = all(label in id_by_label for label in range(len(classes)))
    return DetectionDataset(
        split.path.resolve().name,
        split.name,
        classes,
        records,
        check.report(),
        rules,
        category_ids=tuple(id_by_label[label] for label in range(len(classes))) if known else None,
    )


def _size(image: dict[str, Any]) -> tuple[int, int]:
    return image["height"], image["width"]


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

    def record(
        self,
        image: dict[str, Any],
        folder: Path,
        masks: bool,
        segment_map: Path | None,
        federated: FederatedLabels | None,
    ) -> Record:
        return Record(
            image_id=image["id"],
            file=folder / image["file_name"],
            size=_size(image),
            boxes=np.asarray(self.boxes, np.float32).reshape(-1, 4),
            labels=np.asarray(self.labels, np.int64),
            crowd=np.asarray(self.crowd, bool),
            areas=np.asarray(self.areas, np.float64),
            segmentations=tuple(self.segmentations) if masks else None,
            segment_map=segment_map,
            federated=federated,
        )
