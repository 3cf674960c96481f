"""A detection data set: annotations in memory, images decoded one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasperc.data.federated import NEGATIVE, NOT_EXHAUSTIVE, FederatedLabels
from nasperc.data.fingerprinted import Fingerprinted
from nasperc.data.image import read_image
from nasperc.data.image_check import ImageCheck
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.object_masks import ObjectMasks
from nasperc.data.report import ReadReport
from nasperc.data.sample import Meta, Sample
from nasperc.data.segment_map import segment_masks
from nasperc.errors import InputError
from nasperc.limits import require_names

# What all categories are where they are not told apart.
ONE_CLASS = ("object",)


@dataclass(frozen=True, eq=False, slots=True)
class Record:
    """The annotation of one image.

    ``size``: (H, W). ``boxes``: (N, 4) float32, (x1, y1, x2, y2). ``labels``: (N,) int64. ``crowd``: (N,)
    bool. ``areas``: (N,) float64 in square pixels, of the segmentation where the annotation states it, else
    of the box. ``segmentations``: N COCO segmentations, or None when masks were not asked for; where there is a
    ``segment_map``, ids of its segments. ``federated``: None: the annotation is complete.
    """

    image_id: int
    file: Path
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    segmentations: tuple[Any, ...] | None = None
    segment_map: Path | None = None
    federated: FederatedLabels | None = None

    def masks(self) -> tuple[Any, ...] | None:
        """N COCO segmentations: polygons or run lengths.

        Raises:
            InputError: the map of segments cannot be read, is of another size, or lacks one of them.
        """
        if self.segment_map is None or not self.segmentations:
            return self.segmentations
        return tuple(segment_masks(self.segment_map, self.segmentations, self.size))


class DetectionDataset(Fingerprinted):
    """One split: ``len()``, and samples by index. It keeps no file open, so processes may share it.

    Args:
        name: of the data set, for messages and reports.
        split: "train", "val", ...
        classes: names in the order of the labels.
        records: one for each image.
        report: what the reader mended.
        rules: how images are read.
        difficult: ``crowd`` marks objects that are too difficult to count (VOC), not regions of many (COCO).
        category_ids: by label, what the annotation file calls it; None: it has no such ids, or not for every class.

    Raises:
        InputError: too many classes, or a name that is too long.
    """

    def __init__(
        self,
        name: str,
        split: str,
        classes: tuple[str, ...],
        records: Iterable[Record],
        report: ReadReport | None = None,
        rules: ImageRules = AS_STORED,
        *,
        difficult: bool = False,
        category_ids: tuple[int, ...] | None = None,
    ) -> None:
        require_names(classes, where=f"{name} {split}")
        self.name = name
        self.split = split
        self.classes = classes
        self.records = tuple(records)
        self.report = report or ReadReport()
        self.left_out = self.report.left_out
        self.rules = rules
        self.difficult = difficult
        self.category_ids = category_ids

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """The sample of one image; ``masks`` only where they were asked for.

        Raises:
            InputError: the image cannot be read, has another size than its annotation states, or is refused by
                ``rules``; its map of segments cannot be read.
            IndexError: there is no such image.
        """
        record = self.records[index]
        # First the image: what its annotation says of its size may be anything, and masks would be made of it.
        image = read_image(record.file, record.size, self.rules)
        return self._sample(record, image, record.masks())

    def _sample(self, record: Record, image: Tensor, masks: Sequence[Any] | None) -> Sample:
        return Sample(
            image=image,
            meta=Meta(record.image_id, record.file, record.size),
            boxes=torch.from_numpy(record.boxes.copy()),
            labels=torch.from_numpy(record.labels.copy()),
            crowd=torch.from_numpy(record.crowd.copy()),
            masks=None if masks is None else ObjectMasks.of(masks, record.size),
        )

    def subset(self, indices: Iterable[int]) -> DetectionDataset:
        """The images at ``indices``, in that order; classes and report stay those of the whole split."""
        chosen = list(indices)
        part = self._of(self.records[i] for i in chosen)
        if self.hashes is not None:
            known = dict(zip(self.files(), self.hashes, strict=True))
            part.hashes, part._folder = tuple(known[file] for file in part.files()), self._folder
        return part

    def without_crowd_regions(self) -> DetectionDataset:
        """The split without COCO's crowd regions, so that what lies in them is background, as detectron2 trains;
        itself where there are none, or where ``crowd`` marks difficult objects."""
        if self.difficult or not any(record.crowd.any() for record in self.records):
            return self
        part = self._of(map(_without_crowd, self.records))
        part.hashes = self.hashes
        return part

    def as_one_class(self) -> DetectionDataset:
        """The split with every object of the one class "object".

        Raises:
            InputError: its annotations are complete for some categories only.
        """
        if any(record.federated is not None for record in self.records):
            raise InputError(
                "annotations that are complete for some categories only must be read with their categories",
                value="data.one_class: true",
                where=f"{self.name} {self.split}",
                repair=f"Leave that key out; or take {NEGATIVE} and {NOT_EXHAUSTIVE} off the file, if it is complete.",
            )
        records = [replace(record, labels=np.zeros_like(record.labels)) for record in self.records]
        part = DetectionDataset(
            self.name, self.split, ONE_CLASS, records, self.report, self.rules, difficult=self.difficult
        )
        part.hashes = self.hashes
        return part

    def objects(self) -> int:
        """How many objects there are to learn or to find: crowd does not count."""
        return sum(int((~record.crowd).sum()) for record in self.records)

    @cached_property
    def images(self) -> ImageCheck:
        """What the headers of the images say; they are read when it is first asked for, by the driver alone."""
        return ImageCheck.of((record.file for record in self.records), self.rules)

    def lines(self) -> list[str]:
        """What the user should be told once of how the split was read, a line each."""
        return self.report.lines() + self.images.lines()

    def _of(self, records: Iterable[Record]) -> DetectionDataset:
        return DetectionDataset(
            self.name,
            self.split,
            self.classes,
            records,
            self.report,
            self.rules,
            difficult=self.difficult,
            category_ids=self.category_ids,
        )

    def files(self) -> tuple[Path, ...]:
        """The images, one a record, then the maps of segments that masks are made of."""
        maps = (record.segment_map for record in self.records)
        return (*(record.file for record in self.records), *(each for each in maps if each is not None))

    @cached_property
    def described(self) -> str:
        """Of classes, image names, sizes and annotations in order; masks count where they were asked for, so the
        same split with and without masks has two fingerprints."""
        digest = hashlib.sha256()
        digest.update(json.dumps(self.classes).encode())
        for record in self.records:
            head = [record.image_id, record.file.name, record.size, len(record.boxes), record.segmentations]
            digest.update(json.dumps(head, sort_keys=True).encode())
            for array in (record.boxes, record.labels, record.crowd, record.areas):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def old_fingerprint(self) -> str:
        """See :meth:`Fingerprinted.old_fingerprint`: it was all that is described."""
        return self.described

    def coco_ground_truth(self) -> dict[str, Any]:
        """The split in COCO's instances format: category id = label + 1, ``iscrowd`` from the crowd flag; with
        segmentations where masks were asked for.

        Raises:
            InputError: a map of segments cannot be read.
        """
        annotations: list[dict[str, Any]] = []
        for record in self.records:
            masks = record.masks()
            for k, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": int(record.labels[k]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(record.areas[k]),
                    "iscrowd": int(record.crowd[k]),
                }
                if masks is not None:
                    annotation["segmentation"] = masks[k]
                annotations.append(annotation)
        return {
            "info": {"description": f"{self.name} {self.split}"},
            "images": list(map(_image_entry, self.records)),
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(self.classes)],
            "annotations": annotations,
        }


def _image_entry(record: Record) -> dict[str, Any]:
    height, width = record.size
    entry = {"id": record.image_id, "file_name": record.file.name, "height": height, "width": width}
    if record.federated is not None:
        entry[NEGATIVE] = [label + 1 for label in record.federated.negative]
        entry[NOT_EXHAUSTIVE] = [label + 1 for label in record.federated.not_exhaustive]
    return entry


def _without_crowd(record: Record) -> Record:
    kept = np.flatnonzero(~record.crowd)
    return replace(
        record,
        boxes=record.boxes[kept],
        labels=record.labels[kept],
        crowd=record.crowd[kept],
        areas=record.areas[kept],
        segmentations=None if record.segmentations is None else tuple(record.segmentations[k] for k in kept),
    )
