"""The layouts of panoptic data sets: recognising one, and opening a split of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nasperc.data.cityscapes_panoptic import (
    CITYSCAPES_PANOPTIC,
    cityscapes_panoptic_files,
    cityscapes_panoptic_splits,
    read_cityscapes_panoptic,
)
from nasperc.data.coco_panoptic import (
    coco_panoptic_classes,
    panoptic_files,
    panoptic_splits,
    read_coco_panoptic,
)
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.other_panoptic import read_other_panoptic
from nasperc.data.panoptic import PanopticClasses, PanopticDataset
from nasperc.errors import InputError


@dataclass(frozen=True)
class _Layout:
    """``title`` and ``files`` tell it to the user. ``named``: annotation file by name of a split, of which a split may
    have several; ``splits``: one of each. ``read``: a split; ``classes``: those that a split says."""

    title: str
    files: str
    named: Callable[[Path], dict[str, Path]]
    splits: Callable[[Path], tuple[str, ...]]
    read: Callable[..., PanopticDataset]
    classes: Callable[[Path, str], PanopticClasses]


_LAYOUTS = {
    "coco_panoptic": _Layout(
        "COCO panoptic",
        "annotations/panoptic_<split>.json, annotations/panoptic_<split>/ and <split>/ or images/",
        panoptic_files,
        panoptic_splits,
        read_coco_panoptic,
        coco_panoptic_classes,
    ),
    "cityscapes": _Layout(
        "Cityscapes",
        "leftImg8bit/<split>/, gtFine/cityscapes_panoptic_<split>.json, gtFine/cityscapes_panoptic_<split>/",
        cityscapes_panoptic_files,
        cityscapes_panoptic_splits,
        read_cityscapes_panoptic,
        lambda path, split: CITYSCAPES_PANOPTIC,
    ),
}


def panoptic_split_names(path: Path, format: str = "auto") -> tuple[str, ...]:
    """The names of the splits.

    Raises:
        InputError: as :func:`open_panoptic`.
    """
    return _layout(path, format).splits(path)


def has_panoptic_split(path: Path, split: str, format: str = "auto") -> bool:
    """Whether :func:`open_panoptic` finds ``split``.

    Raises:
        InputError: as :func:`open_panoptic`.
    """
    return split in _layout(path, format).named(path)


def classes_of_panoptic(path: Path, split: str, format: str = "auto") -> PanopticClasses:
    """The classes of a split, sorted by name or in the layout's own order.

    Raises:
        InputError: as :func:`open_panoptic`.
    """
    return _layout(path, format).classes(path, split)


def open_panoptic(
    path: Path,
    split: str,
    *,
    format: str = "auto",
    classes: PanopticClasses | None = None,
    strict: bool = False,
    train_split: str = "train",
    rules: ImageRules = AS_STORED,
    annotations: Path | None = None,
) -> PanopticDataset:
    """Read one split of a panoptic data set.

    Args:
        path: the data set's folder; one of COCO may have files of instances beside those of segments.
        split: its name; a COCO split may carry its year or not.
        format: "coco_panoptic", "cityscapes" or "auto".
        classes: None: those of ``train_split``, or of ``split`` itself where there is no such split.
        strict: boxes that would be dropped or clipped are errors.
        train_split: the split that says which classes there are.
        rules: how images are read.
        annotations: a file in COCO's panoptic format, or one that lists images alone, in place of the split's own.

    Raises:
        InputError: anything wrong with the files, an unknown class included; another layout.
    """
    layout = _layout(path, format)
    if classes is None:
        classes = layout.classes(path, train_split if train_split in layout.named(path) else split)
    read = layout.read if annotations is None else partial(read_other_panoptic, annotations)
    return read(path, split, classes, strict=strict, rules=rules)


def _layout(path: Path, format: str) -> _Layout:
    if not path.is_dir():
        raise InputError(
            "a data set must be a folder", value="no such folder", where=path, repair="Mend --data."
        )
    if format in _LAYOUTS:
        return _LAYOUTS[format]
    if format != "auto":
        raise InputError(
            f"this needs a panoptic data set (format {', '.join(_LAYOUTS)})",
            value=f"format {format}",
            where=path,
            repair="Name one of them, or another folder with --data.",
        )
    found = [name for name, layout in _LAYOUTS.items() if layout.named(path)]
    if len(found) == 1:
        return _LAYOUTS[found[0]]
    known = " or ".join(f"{layout.title} ({layout.files})" for layout in _LAYOUTS.values())
    raise InputError(
        f"a panoptic data set must be laid out as {known}",
        value="both" if found else "neither",
        where=path,
        repair=f"Choose with {' or '.join(f'--format {name}' for name in found)}."
        if found
        else "Convert it to one of them.",
    )
