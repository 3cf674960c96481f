"""Cityscapes' panoptic annotations: ``gtFine/cityscapes_panoptic_<split>.json`` and a folder of that name with a map of
segments an image, as cityscapesScripts makes them from the instance maps, with its ids of labels or with train ids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nasperc.data.cityscapes import CITYSCAPES_CLASSES
from nasperc.data.coco_fields import REPAIR, check_unique, field
from nasperc.data.coco_files import load_content
from nasperc.data.coco_objects import CocoSplit
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.panoptic import PanopticClasses, PanopticDataset
from nasperc.data.panoptic_file import PanopticFile, parse_panoptic
from nasperc.data.panoptic_objects import read_segments_of
from nasperc.errors import InputError

# The train ids count stuff first.
_STUFF = 11
CITYSCAPES_PANOPTIC = PanopticClasses(CITYSCAPES_CLASSES[_STUFF:], CITYSCAPES_CLASSES[:_STUFF])
_NAME = re.compile(r"cityscapes_panoptic_(?P<split>.+?)(?P<train_ids>_trainId)?\.json")
_IMAGE = re.compile(r"[^/\\]+_\d+_\d+")


def cityscapes_panoptic_files(path: Path) -> dict[str, Path]:
    """Annotation file by split; of two that differ in their ids of categories the one with those of labels."""
    found = ((_NAME.fullmatch(file.name), file) for file in sorted((path / "gtFine").glob("*.json")))
    matches = [(match, file) for match, file in found if match is not None]
    return {
        match["split"]: file for match, file in sorted(matches, key=lambda each: not each[0]["train_ids"])
    }


def cityscapes_panoptic_splits(path: Path) -> tuple[str, ...]:
    """Those that have such a file."""
    return tuple(sorted(cityscapes_panoptic_files(path)))


def read_cityscapes_panoptic(
    path: Path,
    split: str,
    classes: PanopticClasses | None = None,
    *,
    strict: bool = False,
    rules: ImageRules = AS_STORED,
) -> PanopticDataset:
    """One split, images in the order of their names.

    Args:
        path: the data set's folder.
        split: its name.
        classes: the eight things and eleven classes of stuff in an order of their own; None: in that of the train ids.
        strict: boxes that would be dropped or clipped are errors.
        rules: how images are read.

    Raises:
        InputError: a file that is missing or malformed; other classes.
    """
    files = cityscapes_panoptic_files(path)
    if split not in files:
        raise InputError(
            "a panoptic split of Cityscapes must have a file gtFine/cityscapes_panoptic_<split>.json",
            value=f"no file for '{split}'",
            where=path,
            repair=f"Make it with cityscapesScripts. Splits found: {', '.join(sorted(files)) or 'none'}.",
        )
    file = files[split]
    numbered, keys = _numbered(load_content(file), file)
    found = parse_panoptic(numbered, file, file.with_suffix(""))
    _check_classes(found)
    things = CocoSplit(
        path, split, file, found.instances(), lambda first: path / "leftImg8bit" / split, found.maps
    )
    return read_segments_of(
        found, things, classes or CITYSCAPES_PANOPTIC, strict=strict, rules=rules, keys=keys
    )


def _numbered(content: dict[str, Any], file: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """The content with numbers as ids of images and with the names of their files, and what a number stands for."""
    names = [field(each, "id", str, file) for each in content["images"]]
    check_unique(names, "image id", file)
    for name in names:
        if not _IMAGE.fullmatch(name):
            raise InputError(
                "an image of Cityscapes must be named <city>_<sequence>_<frame>",
                value=name,
                where=file,
                repair=REPAIR,
            )
    number = {name: place for place, name in enumerate(sorted(names))}
    images = [
        {
            **each,
            "id": number[each["id"]],
            "file_name": f"{each['id'].split('_')[0]}/{each['id']}_leftImg8bit.png",
        }
        for each in content["images"]
    ]
    annotations = []
    for each in content["annotations"]:
        name = field(each, "image_id", str, file)
        if name not in number:
            raise InputError(
                "a panoptic annotation must be the one of a listed image",
                value=name,
                where=file,
                repair=REPAIR,
            )
        annotations.append({**each, "image_id": number[name]})
    return {**content, "images": images, "annotations": annotations}, {
        place: name for name, place in number.items()
    }


def _check_classes(found: PanopticFile) -> None:
    for entries, expected in (
        (found.things, CITYSCAPES_PANOPTIC.things),
        (found.stuff, CITYSCAPES_PANOPTIC.stuff),
    ):
        names = {field(each, "name", str, found.file).strip() for each in entries}
        if names != set(expected):
            raise InputError(
                f"the things of Cityscapes are {', '.join(CITYSCAPES_PANOPTIC.things)}, and its stuff "
                f"{', '.join(CITYSCAPES_PANOPTIC.stuff)}",
                value=", ".join(sorted(names ^ set(expected))),
                where=found.file,
                repair="Make the file with cityscapesScripts.",
            )
