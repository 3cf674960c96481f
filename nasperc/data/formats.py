"""The layouts of data sets: recognising one, and opening a split of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nasperc.data.camvid import camvid_splits, read_camvid
from nasperc.data.cityscapes import cityscapes_splits, read_cityscapes
from nasperc.data.coco import coco_classes, coco_files, coco_splits, read_coco
from nasperc.data.coco_panoptic import panoptic_classes, panoptic_files, panoptic_splits, read_panoptic
from nasperc.data.dataset import DetectionDataset
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.other_annotations import read_other_annotations
from nasperc.data.recipe import AUTO
from nasperc.data.video import VideoDataset
from nasperc.data.voc import read_voc, voc_classes, voc_splits
from nasperc.errors import InputError


@dataclass(frozen=True)
class Layout:
    """``title`` and ``files`` tell it to the user. ``marked``: whether a folder has its markers. ``names``: all
    names of splits that can be opened, of which ``splits`` has one for each."""

    title: str
    files: str
    marked: Callable[[Path], bool]
    splits: Callable[[Path], tuple[str, ...]]
    names: Callable[[Path], Collection[str]]


DETECTION = {
    "voc": Layout(
        "VOC",
        "ImageSets/Main/<split>.txt, Annotations/*.xml, JPEGImages/",
        lambda path: (path / "ImageSets" / "Main").is_dir() and (path / "Annotations").is_dir(),
        voc_splits,
        voc_splits,
    ),
    "coco": Layout(
        "COCO",
        "annotations/instances_<split>.json and <split>/ or images/",
        lambda path: any((path / "annotations").glob("instances_*.json")),
        coco_splits,
        coco_files,
    ),
    "coco_panoptic": Layout(
        "COCO panoptic",
        "annotations/panoptic_<split>.json, annotations/panoptic_<split>/ and <split>/ or images/",
        # COCO's folders hold both, and the instances of the other file overlap as objects do.
        lambda path: bool(panoptic_files(path)) and not any((path / "annotations").glob("instances_*.json")),
        panoptic_splits,
        panoptic_files,
    ),
}
# Of each layout with boxes: the reader of a split, and the reader of the names of its classes.
_READERS: dict[str, tuple[Callable[..., DetectionDataset], Callable[[Path, str], tuple[str, ...]]]] = {
    "voc": (read_voc, voc_classes),
    "coco": (read_coco, coco_classes),
    "coco_panoptic": (read_panoptic, panoptic_classes),
}
VIDEO = {
    "camvid": Layout(
        "CamVid",
        "<split>/, <split>annot/, <split>.txt",
        lambda path: bool(camvid_splits(path)),
        camvid_splits,
        camvid_splits,
    ),
    "cityscapes": Layout(
        "Cityscapes",
        "leftImg8bit/<split>/, gtFine/<split>/",
        lambda path: (path / "leftImg8bit").is_dir() and (path / "gtFine").is_dir(),
        cityscapes_splits,
        cityscapes_splits,
    ),
}
LAYOUTS = DETECTION | VIDEO


def either(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *others, last = names
    return f"{', '.join(others)} or {last}"


def titles(layouts: Mapping[str, Layout]) -> str:
    """What layouts are called, in words."""
    return either(layout.title for layout in layouts.values())


def known_format(name: str) -> str:
    """``name``, if it is a key of ``LAYOUTS``, or "auto".

    Raises:
        ValueError: it is neither.
    """
    if name not in (AUTO, *LAYOUTS):
        raise ValueError(f"a data format must be one of {', '.join((AUTO, *LAYOUTS))}")
    return name


def detect_format(path: Path) -> str:
    """The key of ``LAYOUTS`` whose markers the folder has.

    Raises:
        InputError: the folder is missing, of none of the layouts, or of several.
    """
    _check_folder(path)
    found = _marked(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            "a data set's layout must be clear",
            value=f"the markers of {' and of '.join(LAYOUTS[name].title for name in found)}",
            where=path,
            repair=f"Choose with {' or '.join(f'--format {name}' for name in found)}.",
        )
    inner = next((child for child in sorted(path.iterdir()) if child.is_dir() and _marked(child)), None)
    known = " or ".join(f"{layout.title} ({layout.files})" for layout in LAYOUTS.values())
    raise InputError(
        f"a data set must be laid out as {known}",
        value="none of them",
        where=path,
        repair=f"Did you mean {inner}?" if inner else "Convert it to one of them.",
    )


def splits(path: Path, format: str = AUTO) -> tuple[str, ...]:
    """The names of the data set's splits.

    Raises:
        InputError: as :func:`detect_format`.
    """
    return LAYOUTS[_resolve(path, format)].splits(path)


def has_split(path: Path, split: str, format: str = AUTO) -> bool:
    """Whether :func:`open_dataset` or :func:`open_video` finds ``split``.

    Raises:
        InputError: as :func:`detect_format`.
    """
    return split in LAYOUTS[_resolve(path, format)].names(path)


def open_dataset(
    path: Path,
    split: str,
    *,
    format: str = AUTO,
    classes: tuple[str, ...] | None = None,
    strict: bool = False,
    masks: bool = False,
    train_split: str = "train",
    rules: ImageRules = AS_STORED,
    one_class: bool = False,
    annotations: Path | None = None,
) -> DetectionDataset:
    """Read one split of a data set with boxes.

    Args:
        path: the data set's folder.
        split: its name; a COCO split may carry its year or not.
        format: a key of ``DETECTION``, or "auto".
        classes: names in the order of the labels. None: the sorted names of ``train_split``, or of ``split``
            itself where there is no such split. Pass another split's classes to save reading ``train_split``.
        strict: boxes that would be dropped or clipped are errors.
        masks: read the shapes of the objects, too.
        train_split: the split that says which classes there are.
        rules: how images are read.
        one_class: every object is one "object", whatever its category; ``classes`` are not asked.
        annotations: a file in COCO's instances format that is read in place of the split's own annotations.

    Raises:
        InputError: anything wrong with the files, an unknown class included; a layout without boxes; masks asked for
            where there are none.
    """
    layout = _resolve(path, format, DETECTION, "boxes")
    read, classes_of = _READERS[layout]
    if annotations is not None:
        read = partial(read_other_annotations, annotations)
    read = partial(read, path, split, strict=strict, masks=masks, rules=rules)
    if one_class:
        own = voc_classes(path, split) if layout == "voc" and annotations is None else None
        return read(own).as_one_class()
    if classes is None:
        named = has_split(path, train_split, layout)
        source = train_split if named else split
        # A COCO file can be large and names its own classes: the train split is not read twice.
        if not named if annotations is not None else layout != "voc" and source == split:
            return read(None)
        classes = classes_of(path, source)
        if not classes:
            raise InputError(
                "the train split must show at least one object",
                value="none",
                where=path,
                repair="Annotate it, or list the classes in a file and pass it as --classes FILE.",
            )
    return read(classes)


def open_video(
    path: Path,
    split: str,
    *,
    format: str = AUTO,
    classes: tuple[str, ...] | None = None,
    rules: ImageRules = AS_STORED,
) -> VideoDataset:
    """Read one split of a data set of videos with label maps.

    Args:
        path: the data set's folder.
        split: its name.
        format: a key of ``VIDEO``, or "auto".
        classes: names in the order of the labels, for a folder in the CamVid layout that does not name its own;
            of others it is checked that they are these.
        rules: how images are read.

    Raises:
        InputError: anything wrong with the files; an unknown split; other classes; a layout without videos.
    """
    layout = _resolve(path, format, VIDEO, "videos with label maps")
    found = VIDEO[layout].splits(path)
    if split not in found:
        raise InputError(
            f"a split must be one of {', '.join(found) or '(none found)'}",
            value=f"'{split}'",
            where=path,
            repair="Name one of them, or add the missing folder.",
        )
    return (read_camvid if layout == "camvid" else read_cityscapes)(path, split, classes, rules)


def _marked(path: Path) -> list[str]:
    return [name for name, layout in LAYOUTS.items() if layout.marked(path)]


def _resolve(
    path: Path, format: str, layouts: dict[str, Layout] = LAYOUTS, content: str = "annotations"
) -> str:
    """The layout's name; ``content`` says what ``layouts`` have in common."""
    known = ", ".join(layouts)
    try:
        known_format(format)
    except ValueError as error:
        raise InputError(str(error), value=format, where="--format", repair="Use one of them.") from error
    _check_folder(path)
    name = detect_format(path) if format == AUTO else format
    if name not in layouts:
        raise InputError(
            f"this needs a data set with {content} (format {known})",
            value=f"the layout of {LAYOUTS[name].title}",
            where=path,
            repair="Name another folder with --data.",
        )
    return name


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise InputError(
            "a data set must be a folder", value="no such folder", where=path, repair="Mend --data."
        )
