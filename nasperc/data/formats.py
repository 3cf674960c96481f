"""Recognising a data set's layout and opening a split of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nasperc.data.coco import coco_classes, coco_files, coco_splits, read_coco
from nasperc.data.dataset import DetectionDataset
from nasperc.data.voc import read_voc, voc_classes, voc_splits
from nasperc.errors import InputError
from nasperc.plain_files import read_bounded

# Thousands of classes take kilobytes.
MOST_CLASSES_BYTES = 1 << 20
LAYOUTS = (
    "VOC (ImageSets/Main/<split>.txt, Annotations/*.xml, JPEGImages/) or "
    "COCO (annotations/instances_<split>.json and <split>/ or images/)"
)


def detect_format(path: Path) -> str:
    """ "voc" or "coco", by the folder's markers.

    Raises:
        InputError: the folder is missing, of neither layout, or of both.
    """
    if not path.is_dir():
        raise InputError(
            "a data set must be a folder", value="no such folder", where=path, repair="Mend --data."
        )
    found = _markers(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            "a data set's layout must be clear",
            value="the markers of VOC and of COCO",
            where=path,
            repair="Choose with --format voc or --format coco.",
        )
    inner = next((child for child in sorted(path.iterdir()) if child.is_dir() and _markers(child)), None)
    raise InputError(
        f"a data set must be laid out as {LAYOUTS}",
        value="neither",
        where=path,
        repair=f"Did you mean {inner}?" if inner else "Convert it to one of the two.",
    )


def splits(path: Path, format: str = "auto") -> tuple[str, ...]:
    """The names of the data set's splits.

    Raises:
        InputError: as :func:`detect_format`.
    """
    return voc_splits(path) if _resolve(path, format) == "voc" else coco_splits(path)


def has_split(path: Path, split: str, format: str = "auto") -> bool:
    """Whether :func:`open_dataset` finds ``split``.

    Raises:
        InputError: as :func:`detect_format`.
    """
    return split in (voc_splits(path) if _resolve(path, format) == "voc" else coco_files(path))


def open_dataset(
    path: Path,
    split: str,
    *,
    format: str = "auto",
    classes: tuple[str, ...] | None = None,
    strict: bool = False,
    masks: bool = False,
    train_split: str = "train",
) -> DetectionDataset:
    """Read one split.

    Args:
        path: the data set's folder.
        split: its name; a COCO split may carry its year or not.
        format: "voc", "coco" or "auto".
        classes: names in the order of the labels. None: the sorted names of ``train_split``, or of ``split``
            itself where there is no such split. Pass another split's classes to save reading ``train_split``.
        strict: boxes that would be dropped or clipped are errors.
        masks: keep the segmentations and decode them with each sample.
        train_split: the split that says which classes there are.

    Raises:
        InputError: anything wrong with the files, an unknown class included.
    """
    voc = _resolve(path, format) == "voc"
    if classes is None:
        source = train_split if has_split(path, train_split, "voc" if voc else "coco") else split
        # A COCO file can be large and names its own classes: the train split is not read twice.
        if not voc and source == split:
            return read_coco(path, split, strict=strict, masks=masks)
        classes = (voc_classes if voc else coco_classes)(path, source)
        if not classes:
            raise InputError(
                "the train split must show at least one object",
                value="none",
                where=path,
                repair="Annotate it, or list the classes in a file and pass it as --classes FILE.",
            )
    return (read_voc if voc else read_coco)(path, split, classes, strict=strict, masks=masks)


def read_classes_file(file: Path) -> tuple[str, ...]:
    """Class names, one a line in the order of the labels; empty lines do not count.

    Raises:
        InputError: the file is missing, no UTF-8 text, empty, or names a class twice.
    """
    try:
        text = read_bounded(file, MOST_CLASSES_BYTES).decode()
    except (OSError, ValueError) as error:
        raise InputError(
            "a classes file must be readable text",
            value=error,
            where=file,
            repair="Write one class name a line.",
        ) from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(
            "a classes file must name classes",
            value="none",
            where=file,
            repair="Write one class name a line.",
        )
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(
            "a class must be named once",
            value=f"'{name}' twice",
            where=file,
            repair="Remove one of the lines.",
        )
    return tuple(names)


def _markers(path: Path) -> list[str]:
    found = []
    if (path / "ImageSets" / "Main").is_dir() and (path / "Annotations").is_dir():
        found.append("voc")
    if any((path / "annotations").glob("instances_*.json")):
        found.append("coco")
    return found


def _resolve(path: Path, format: str) -> str:
    if format == "auto":
        return detect_format(path)
    if format not in ("voc", "coco"):
        raise InputError(
            "a data format must be auto, voc or coco",
            value=format,
            where="--format",
            repair="Use one of them.",
        )
    if not path.is_dir():
        raise InputError(
            "a data set must be a folder", value="no such folder", where=path, repair="Mend --data."
        )
    return format
