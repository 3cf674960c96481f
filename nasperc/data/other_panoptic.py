"""A file that is read in place of a panoptic data set's own: other segments, or a test server's list of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nasperc.data.coco_files import annotation_files, image_folder, load_content
from nasperc.data.coco_objects import CocoSplit
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.panoptic import PanopticClasses, PanopticDataset
from nasperc.data.panoptic_file import parse_panoptic
from nasperc.data.panoptic_objects import read_segments_of


def read_other_panoptic(
    file: Path,
    path: Path,
    split: str,
    classes: PanopticClasses | None = None,
    *,
    strict: bool = False,
    rules: ImageRules = AS_STORED,
) -> PanopticDataset:
    """The images that ``file`` lists, which lie where those of the split do, in the order of their ids.

    It need not have annotations; one without any (``image_info_test-dev2017.json``, whose categories are the things
    alone) has the categories of the data set's own panoptic file of that split, or of any.

    Args:
        file: in COCO's panoptic format; the folder of its maps has its name and lies beside it.
        path, split, classes, strict, rules: as of :func:`nasperc.data.coco_panoptic.read_coco_panoptic`.

    Raises:
        InputError: as of :func:`nasperc.data.coco_panoptic.read_coco_panoptic`.
    """
    content = load_content(file, without_annotations=True)
    if not content["annotations"]:
        content["categories"] = _own_categories(path, split) or content["categories"]
    found = parse_panoptic(content, file, path / file.stem)
    things = CocoSplit(path, split, file, found.instances(), partial(image_folder, path, split), found.maps)
    return read_segments_of(found, things, classes, strict=strict, rules=rules)


def _own_categories(path: Path, split: str) -> list[Any]:
    files = annotation_files(path, "panoptic")
    own = files.get(split) or next(iter(files.values()), None)
    categories: list[Any] = [] if own is None else load_content(own)["categories"]
    return categories
