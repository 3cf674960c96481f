"""Fields of COCO files, each read as what it is: what is not, is an error that names file, entry and field."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nasperc.data.report import Box, BoxCheck
from nasperc.data.typed_values import is_number, read_flag, read_number
from nasperc.errors import InputError, shown

REPAIR = "Mend the annotation file."


def object_entry(entry: Any, file: Path) -> dict[str, Any]:
    """An entry of one of the lists.

    Raises:
        InputError: it is no JSON object.
    """
    if not isinstance(entry, dict):
        raise InputError("a COCO entry must be an object", value=shown(entry), where=file, repair=REPAIR)
    return entry


def field(entry: Any, key: str, kind: type, file: Path) -> Any:
    """A field that an entry must have.

    Raises:
        InputError: it is missing or of another type; an integer of more than 64 bits.
    """
    value = object_entry(entry, file).get(key)
    # bool is an int to Python, but no id.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(
            f"a COCO entry must have '{key}' ({kind.__name__})",
            value=shown(entry),
            where=file,
            repair=REPAIR,
        )
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InputError(
            f"'{key}' of a COCO entry must have at most 64 bits", value=value, where=file, repair=REPAIR
        )
    return value


def crowd_flag(annotation: dict[str, Any], file: Path) -> bool:
    """``iscrowd``; none, or null, is no crowd.

    Raises:
        InputError: it is neither 0 nor 1, false nor true, also as text.
    """
    stated = annotation.get("iscrowd")
    flag = False if stated is None else read_flag(stated)
    if flag is None:
        raise InputError(
            f"'iscrowd' of {_named(annotation)} must be 0 or 1",
            value=shown(stated),
            where=file,
            repair=REPAIR,
        )
    return flag


def object_area(annotation: dict[str, Any], box: Box, file: Path, check: BoxCheck) -> float:
    """``area`` in square pixels; that of the box where none is stated, or where ``check`` counts it as impossible.

    Raises:
        InputError: it is no number, also as text; with a strict ``check``, an impossible one.
    """
    of_box = (box[2] - box[0]) * (box[3] - box[1])
    stated = annotation.get("area")
    if stated is None:
        return of_box
    area = read_number(stated)
    rule = f"'area' of {_named(annotation)} must be a number above 0"
    if area is None and not is_number(stated):
        raise InputError(rule, value=shown(stated), where=file, repair=REPAIR)
    if area is None or area <= 0:
        check.replace_area(rule, shown(stated), file)
        return of_box
    return area


def coco_bbox(annotation: dict[str, Any], size: tuple[int, int], file: Path, check: BoxCheck) -> Box | None:
    """``bbox`` as (x1, y1, x2, y2) inside an image of ``size`` (H, W); None where ``check`` drops it.

    Raises:
        InputError: it is not four finite numbers; with a strict ``check``, a box to be dropped or clipped.
    """
    bbox = field(annotation, "bbox", list, file)
    # Floats that are not finite pass here: the check has its own message for them.
    whole = all(isinstance(x, float) or (is_number(x) and read_number(x) is not None) for x in bbox)
    if len(bbox) != 4 or not whole:
        raise InputError(
            f"the bbox of {_named(annotation)} must be [x, y, width, height]",
            value=bbox,
            where=file,
            repair=REPAIR,
        )
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        check.drop("a COCO box must have width > 0 and height > 0", bbox, file)
        return None
    return check.clip((x, y, x + width, y + height), size, file)


def is_text(name: str) -> bool:
    """Whether it can be the name of a file or of a class: JSON can write halves of characters."""
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def check_unique(values: Iterable[Any], what: str, file: Path) -> None:
    """Raises InputError where a value occurs twice."""
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise InputError(
                f"a COCO {what} must be unique", value=f"{value!r} twice", where=file, repair=REPAIR
            )
        seen.add(value)


def _named(annotation: dict[str, Any]) -> str:
    if "id" in annotation:
        return f"annotation {shown(annotation['id'])}"
    return f"an annotation of image {shown(annotation.get('image_id'))}"
