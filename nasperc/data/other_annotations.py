"""A file in COCO's instances format that is read in place of a data set's own: better masks, a test server's images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from nasperc.data.coco import read_instances
from nasperc.data.coco_categories import read_categories
from nasperc.data.coco_files import annotation_files, image_folder, load_content
from nasperc.data.coco_objects import CocoSplit
from nasperc.data.dataset import DetectionDataset
from nasperc.data.federated import NEGATIVE, NOT_EXHAUSTIVE
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.errors import InputError

# What COCO called its images in 2014, and LVIS after it.
_OF_2014 = re.compile(r"COCO_[a-z]+2014_(?P<name>\d{12}\.jpg)")


def read_other_annotations(
    file: Path,
    path: Path,
    split: str,
    classes: tuple[str, ...] | None = None,
    *,
    strict: bool = False,
    masks: bool = False,
    rules: ImageRules = AS_STORED,
) -> DetectionDataset:
    """The images that ``file`` lists, which lie where those of the split do, in the order of their ids.

    It need not have annotations. Of a file that is complete for some categories only, and uses no other ids than the
    data set's own file, categories are known by these ids: those of LVIS that COCO has, too, keep other names. An image
    that has no ``file_name`` has that of its ``coco_url``, and COCO's names of 2014 are those of 2017 where no image is
    called so.

    Args:
        file: of the annotations.
        path: of the data set.
        split: the one whose images are listed.
        classes: names in the order of the labels; None: the sorted names of the categories.
        strict: boxes that would be dropped or clipped are errors.
        masks: read the shapes of the objects, too.
        rules: how images are read.

    Raises:
        InputError: as :func:`nasperc.data.coco.read_coco`.
    """
    content = load_content(file, without_annotations=True)
    folder = partial(image_folder, path, split)
    content["images"] = _named(content["images"], folder)
    own = _own_categories(path, split) if any(map(_is_federated, content["images"])) else {}
    if own and all(_id(each) in own for each in content["categories"]):
        content["categories"] = [{"id": key, "name": name} for key, name in own.items()]
    found = CocoSplit(path, split, file, content, folder)
    return read_instances(found, classes, strict=strict, masks=masks, rules=rules)


def _named(images: list[Any], folder: Callable[[str], Path]) -> list[Any]:
    """The entries of images, of whatever they say, with names that there are files of."""
    of_2014 = (_OF_2014.fullmatch(image["file_name"]) for image in images if isinstance(_name(image), str))
    first = next((match[0] for match in of_2014 if match), None)
    shorten = False
    if first is not None:
        try:
            folder(first)
        except InputError:
            shorten = True
    named = []
    for image in images:
        name, url = _name(image), image.get("coco_url") if isinstance(image, dict) else None
        match = _OF_2014.fullmatch(name) if shorten and isinstance(name, str) else None
        if name is None and isinstance(url, str):
            # The folder is part of it: the images of one file lie in several.
            image = {**image, "file_name": "/".join(PurePosixPath(url).parts[-2:])}
        elif match is not None:
            image = {**image, "file_name": match["name"]}
        named.append(image)
    return named


def _name(image: Any) -> Any:
    return image.get("file_name") if isinstance(image, dict) else None


def _id(category: Any) -> int | None:
    number = category.get("id") if isinstance(category, dict) else None
    return number if type(number) is int else None


def _is_federated(image: Any) -> bool:
    return isinstance(image, dict) and (NEGATIVE in image or NOT_EXHAUSTIVE in image)


def _own_categories(path: Path, split: str) -> Mapping[int, str]:
    """Names by id of the data set's own file of that split, else of any; none where it has no such file."""
    files = annotation_files(path, "instances")
    file = files.get(split) or next(iter(files.values()), None)
    return {} if file is None else read_categories(load_content(file), file).names
