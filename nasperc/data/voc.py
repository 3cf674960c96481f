"""The PASCAL VOC layout.

``ImageSets/Main/<split>.txt`` lists the stems of ``Annotations/<stem>.xml`` and ``JPEGImages/<stem>.jpg``
(or another suffix). Where masks are asked for, ``ImageSets/Segmentation/<split>.txt``, if there is one, lists those
that have a map ``SegmentationObject/<stem>.png``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from nasperc.data.class_names import labels_by_name
from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.image import IMAGE_SUFFIXES, LONGEST_SIDE, images_by_stem, read_size
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.report import Box, BoxCheck
from nasperc.data.split_list import read_split_list
from nasperc.data.typed_values import read_flag, read_number
from nasperc.data.voc_masks import masks_of_boxes
from nasperc.errors import InputError
from nasperc.plain_files import read_bounded

_REPAIR = "Mend the annotation."
# An image's objects take kilobytes.
MOST_XML_BYTES = 16 << 20
MAPS = "SegmentationObject"


def voc_splits(path: Path) -> tuple[str, ...]:
    """The splits of ``ImageSets/Main``; the lists of one class (``cat_train.txt``) are no splits."""
    names = sorted(file.stem for file in (path / "ImageSets" / "Main").glob("*.txt"))
    return tuple(n for n in names if not any(n.endswith(f"_{other}") for other in names))


def voc_classes(path: Path, split: str) -> tuple[str, ...]:
    """The sorted names of the classes that occur in a split.

    Raises:
        InputError: as :func:`read_voc`.
    """
    names: set[str] = set()
    for stem in _stems(path, split):
        file = path / "Annotations" / f"{stem}.xml"
        names.update(_text(item, "name", file) for item in _parse(file).iterfind("object"))
    return tuple(sorted(names))


def read_voc(
    path: Path,
    split: str,
    classes: tuple[str, ...],
    *,
    strict: bool = False,
    masks: bool = False,
    rules: ImageRules = AS_STORED,
) -> DetectionDataset:
    """One split. A box is (xmin - 1, ymin - 1, xmax, ymax): VOC counts from 1 and includes the last pixel.

    ``difficult`` objects count as crowd. The image id is the place in the split's list, from 1. Where the XML
    states no size, or 0, the image's header is asked. With ``masks`` areas are those of the masks, and objects that
    have none are dropped and counted.

    Raises:
        InputError: a file that is missing or malformed, an unknown class, an image without a map of objects where masks
            are asked for, or, with ``strict``, an object that would be dropped or clipped.
    """
    label_of = labels_by_name(classes, path)
    images = images_by_stem(path / "JPEGImages")
    check = BoxCheck(strict)
    records = []
    maps = path / MAPS if masks else None
    for number, stem in enumerate(_stems(path, split, masks=masks), start=1):
        file = path / "Annotations" / f"{stem}.xml"
        if stem not in images:
            raise InputError(
                f"an annotated image must lie in JPEGImages ({', '.join(IMAGE_SUFFIXES)})",
                value=f"no file of the stem '{stem}'",
                where=path / "JPEGImages",
                repair=f"Add the image, or take it off ImageSets/Main/{split}.txt.",
            )
        records.append(_record(number, images[stem], file, label_of, check, rules, maps))
    return DetectionDataset(
        path.resolve().name, split, classes, records, check.report(), rules, difficult=True
    )


def _record(
    number: int,
    image: Path,
    file: Path,
    label_of: dict[str, int],
    check: BoxCheck,
    rules: ImageRules,
    maps: Path | None,
) -> Record:
    root = _parse(file)
    size = _size(root, file) or read_size(image, rules)
    boxes: list[Box] = []
    labels: list[int] = []
    difficult: list[bool] = []
    # Direct children only: an object's <part> elements have names and boxes of their own.
    for item in root.iterfind("object"):
        name = _text(item, "name", file)
        if name not in label_of:
            raise InputError(
                f"a class must be one of {', '.join(label_of)}",
                value=f"'{name}'",
                where=file,
                repair="Mend the name, or list all classes in a file and pass it as --classes FILE.",
            )
        box = _box(item, size, file, check)
        if box is not None:
            boxes.append(box)
            labels.append(label_of[name])
            difficult.append(_flag(item, "difficult", file))
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    areas = (array[:, 2:] - array[:, :2]).prod(axis=1, dtype=np.float64)
    record = Record(
        number, image, size, array, np.asarray(labels, np.int64), np.asarray(difficult, bool), areas
    )
    return record if maps is None else _with_masks(record, boxes, maps / f"{file.stem}.png", check, file)


def _with_masks(record: Record, boxes: list[Box], segments: Path, check: BoxCheck, file: Path) -> Record:
    """The objects that have a mask in a map of objects."""
    if boxes and not segments.is_file():
        raise InputError(
            f"where masks are asked for, an image must have a map {MAPS}/<stem>.png",
            value="no such file",
            where=segments,
            repair="List the images that have one in ImageSets/Segmentation/<split>.txt, or use a task of boxes.",
        )
    masks = masks_of_boxes(segments, boxes, record.size) if boxes else []
    kept = [place for place, mask in enumerate(masks) if mask is not None]
    for _ in range(len(boxes) - len(kept)):
        check.drop_without_mask("an object must have pixels in the map of its image", "none", file)
    found = [mask for mask in masks if mask is not None]
    return replace(
        record,
        boxes=record.boxes[kept],
        labels=record.labels[kept],
        crowd=record.crowd[kept],
        areas=np.asarray([mask.area for mask in found], np.float64),
        segmentations=tuple(mask.run_lengths for mask in found),
    )


def _box(item: Element, size: tuple[int, int], file: Path, check: BoxCheck) -> Box | None:
    corners = item.find("bndbox")
    if corners is None:
        raise InputError("a VOC object must have a bndbox", value="none", where=file, repair=_REPAIR)
    xmin, ymin, xmax, ymax = (_number(corners, key, file) for key in ("xmin", "ymin", "xmax", "ymax"))
    if xmax <= xmin or ymax <= ymin:
        written = f"xmin={xmin:g} ymin={ymin:g} xmax={xmax:g} ymax={ymax:g}"
        check.drop("a VOC box must have xmax > xmin and ymax > ymin", written, file)
        return None
    return check.clip((xmin - 1, ymin - 1, xmax, ymax), size, file)


def _stems(path: Path, split: str, *, masks: bool = False) -> list[str]:
    lists = path / "ImageSets"
    segmented = lists / "Segmentation" / f"{split}.txt"
    file = segmented if masks and segmented.is_file() else lists / "Main" / f"{split}.txt"
    return read_split_list(file, "VOC", voc_splits(path))


def _parse(file: Path) -> Element:
    try:
        root: Any = fromstring(read_bounded(file, MOST_XML_BYTES), forbid_dtd=False)
    except OSError as error:
        raise InputError(
            "an image of a split must have an annotation",
            value=error.strerror,
            where=file,
            repair="Add the file (without objects if there are none), or take the image off the split.",
        ) from error
    # LookupError: an encoding that Python does not have.
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise InputError(
            "a VOC annotation must be well-formed XML without entities",
            value=error,
            where=file,
            repair=_REPAIR,
        ) from error
    if root.tag != "annotation":
        raise InputError(
            "a VOC annotation's root element must be <annotation>",
            value=f"<{root.tag}>",
            where=file,
            repair=_REPAIR,
        )
    return root


def _size(root: Element, file: Path) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    height, width = _number(size, "height", file), _number(size, "width", file)
    if not (min(height, width) >= 0 and max(height, width) <= LONGEST_SIDE) or height % 1 or width % 1:
        raise InputError(
            f"an image's width and height must be whole numbers of at most {LONGEST_SIDE}",
            value=f"{width:g}x{height:g}",
            where=file,
            repair=_REPAIR,
        )
    return (int(height), int(width)) if height and width else None


def _text(item: Element, key: str, file: Path) -> str:
    text = (item.findtext(key) or "").strip()
    if not text:
        raise InputError(f"a VOC <{item.tag}> must have a <{key}>", value="none", where=file, repair=_REPAIR)
    return text


def _number(item: Element, key: str, file: Path) -> float:
    text = _text(item, key, file)
    value = read_number(text)
    if value is None:
        raise InputError(f"<{key}> must be a finite number", value=f"'{text}'", where=file, repair=_REPAIR)
    return value


def _flag(item: Element, key: str, file: Path) -> bool:
    """A field that an object need not have, or may leave empty."""
    text = (item.findtext(key) or "").strip()
    flag = read_flag(text or "0")
    if flag is None:
        raise InputError(
            f"<{key}> of the object '{_text(item, 'name', file)}' must be 0 or 1",
            value=f"'{text}'",
            where=file,
            repair=_REPAIR,
        )
    return flag
