"""Where a COCO layout keeps what: a JSON file a split, the images that it lists, and the folder that they lie in."""

from __future__ import annotations

import glob
import json
import re
from pathlib import Path, PurePath
from typing import Any, Literal

from nasperc.data.coco_fields import REPAIR, check_unique, field, is_text, object_entry
from nasperc.data.image import LONGEST_SIDE
from nasperc.errors import InputError, shown

Kind = Literal["instances", "panoptic"]

# What file systems take.
LONGEST_NAME, LONGEST_PATH = 255, 2000
_NAME = re.compile(r"(?P<kind>instances|panoptic)_(?P<split>.+?)(?P<year>\d{4})?\.json")


def annotation_files(path: Path, kind: Kind) -> dict[str, Path]:
    """Annotation file by split name. ``train`` and ``train2017`` both name ``instances_train2017.json``.

    Of several years the latest has the plain name; the others keep the name with their year.
    """
    found = [
        (_NAME.fullmatch(file.name), file) for file in sorted((path / "annotations").glob(f"{kind}_*.json"))
    ]
    files: dict[str, Path] = {}
    # No year sorts last, so that a file of just that name wins.
    for match, file in sorted(((m, f) for m, f in found if m), key=lambda each: each[0]["year"] or "~"):
        files[match["split"] + (match["year"] or "")] = file
        files[match["split"]] = file
    return files


def split_names(path: Path, kind: Kind) -> tuple[str, ...]:
    """The names of the splits, each file once."""
    by_file = {file: split for split, file in sorted(annotation_files(path, kind).items(), reverse=True)}
    return tuple(sorted(by_file.values()))


def annotation_file(path: Path, split: str, kind: Kind) -> Path:
    """The annotation file of a split.

    Raises:
        InputError: there is none.
    """
    files = annotation_files(path, kind)
    if split not in files:
        raise InputError(
            f"a COCO split must have a file annotations/{kind}_<split>[year].json",
            value=f"no file for '{split}'",
            where=path,
            repair=f"Splits found: {', '.join(split_names(path, kind)) or 'none'}.",
        )
    return files[split]


def load_content(file: Path, *, without_annotations: bool = False) -> dict[str, Any]:
    """A whole annotation file, its lists there and nothing in them checked.

    Args:
        file: to be read.
        without_annotations: it need not have any, as that of a test server; they are an empty list then.

    Raises:
        InputError: it is missing or malformed.
    """
    try:
        # Not nasperc.plain_files: these may be half a gigabyte, and every field is checked where it is taken.
        content = json.loads(file.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "a COCO annotation file must be well-formed JSON in UTF-8",
            value=error,
            where=file,
            repair=REPAIR,
        ) from error
    if without_annotations and isinstance(content, dict):
        content.setdefault("annotations", [])
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"a COCO file must have a list '{key}'", value="none", where=file, repair=REPAIR)
    return content


def listed_images(content: dict[str, Any], file: Path) -> dict[int, dict[str, Any]]:
    """The entries of the images by id.

    Raises:
        InputError: one is malformed or listed twice; there are none.
    """
    images = {}
    for entry in content["images"]:
        images[field(entry, "id", int, file)] = entry
        check_file_name(entry, file)
        sides = field(entry, "height", int, file), field(entry, "width", int, file)
        if not 0 < min(sides) <= max(sides) <= LONGEST_SIDE:
            raise InputError(
                f"an image's width and height must be from 1 to {LONGEST_SIDE}",
                value=entry,
                where=file,
                repair=REPAIR,
            )
    if not images:
        raise InputError("a COCO file must list images", value="none", where=file, repair=REPAIR)
    check_unique((entry["id"] for entry in content["images"]), "image id", file)
    check_unique((entry["file_name"] for entry in content["images"]), "file name", file)
    return images


def check_file_name(entry: Any, file: Path) -> str:
    """``file_name`` of an entry.

    Raises:
        InputError: it has none, or one that leads out of the data set.
    """
    stated: str = field(object_entry(entry, file), "file_name", str, file)
    name = PurePath(stated)
    too_long = any(len(part) > LONGEST_NAME for part in name.parts) or len(stated) > LONGEST_PATH
    if too_long or name.is_absolute() or ".." in name.parts or not is_text(stated):
        raise InputError(
            "an image's file name must lead to a place inside the data set",
            value=shown(stated),
            where=file,
            repair="Move or link the image there, and name it so.",
        )
    return stated


def image_folder(path: Path, split: str, first: str, *, file: Path | None = None) -> Path:
    """The folder that holds the images of a split.

    Args:
        path: of the data set.
        split: its name, with or without a year.
        first: the name of one of the images in it.
        file: the data set's own annotations of it; None: others are read in their place.

    Raises:
        InputError: no folder of the layout holds it.
    """
    match = None if file is None else _NAME.fullmatch(file.name)
    if match is None:
        pattern = f"{glob.escape(split)}[0-9][0-9][0-9][0-9]"
        folders = [folder for place in (".", "images") for folder in (path / place).glob(pattern)]
        plain, years = split, sorted({folder.name[len(split) :] for folder in folders}, reverse=True)
        others = ["images", "JPEGImages", "."]
    else:
        plain, years, others = match["split"], [match["year"] or ""], ["images", "."]
    dated = [*(plain + year for year in years), plain]
    names = dict.fromkeys((*dated, *(f"images/{name}" for name in dated), *others))
    for name in names:
        if (path / name / first).is_file():
            return path / name
    raise InputError(
        f"images must lie in one of {', '.join(names)}",
        value=f"'{first}' in none of them",
        where=path,
        repair="Move or link the images there.",
    )
