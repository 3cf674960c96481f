"""The COCO panoptic layout: ``annotations/panoptic_<split>[year].json`` and a folder of that name with a map of
segments an image; read as instances, which are its things, or whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nasperc.data.coco_categories import read_categories
from nasperc.data.coco_files import annotation_file, annotation_files, image_folder, load_content, split_names
from nasperc.data.coco_objects import CocoSplit, read_objects
from nasperc.data.dataset import DetectionDataset
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.panoptic import PanopticClasses, PanopticDataset
from nasperc.data.panoptic_file import PanopticFile, parse_panoptic
from nasperc.data.panoptic_objects import classes_in, read_segments_of

panoptic_files = partial(annotation_files, kind="panoptic")
panoptic_splits = partial(split_names, kind="panoptic")


def panoptic_classes(path: Path, split: str) -> tuple[str, ...]:
    """The sorted names of the things of a split's file.

    Raises:
        InputError: as :func:`read_panoptic`.
    """
    found = _open(path, split)
    return tuple(sorted(read_categories(found.instances(), found.file).names.values()))


def coco_panoptic_classes(path: Path, split: str) -> PanopticClasses:
    """The sorted names of the things and of the stuff of a split's file.

    Raises:
        InputError: as :func:`read_coco_panoptic`.
    """
    return classes_in(_open(path, split))


def read_panoptic(
    path: Path,
    split: str,
    classes: tuple[str, ...] | None = None,
    *,
    strict: bool = False,
    masks: bool = False,
    rules: ImageRules = AS_STORED,
) -> DetectionDataset:
    """The things of one split, images in the order of their ids; its objects are their segments.

    Without ``classes`` they are the sorted names of this file's things. Boxes are those that are stated, else those
    around the segments. With ``masks`` the maps are read with each sample.

    Raises:
        InputError: a file that is missing or malformed, an unknown category or class, or, with ``strict``, a box that
            would be dropped or clipped.
    """
    found = _open(path, split)

    def segment_of(annotation: dict[str, Any], size: tuple[int, int]) -> int:
        segment: int = annotation["segment"]
        return segment

    things = _split_of(path, split, found)
    return read_objects(things, classes, segment_of if masks else None, strict=strict, rules=rules)


def read_coco_panoptic(
    path: Path,
    split: str,
    classes: PanopticClasses | None = None,
    *,
    strict: bool = False,
    rules: ImageRules = AS_STORED,
) -> PanopticDataset:
    """One split with things and stuff, images in the order of their ids.

    Without ``classes`` they are the sorted names of this file's.

    Raises:
        InputError: as :func:`read_panoptic`; no things or no stuff, or a name that both have.
    """
    found = _open(path, split)
    return read_segments_of(found, _split_of(path, split, found), classes, strict=strict, rules=rules)


def _open(path: Path, split: str) -> PanopticFile:
    file = annotation_file(path, split, "panoptic")
    return parse_panoptic(load_content(file), file, path / file.stem)


def _split_of(path: Path, split: str, found: PanopticFile) -> CocoSplit:
    folder = partial(image_folder, path, split, file=found.file)
    return CocoSplit(path, split, found.file, found.instances(), folder, found.maps)
