"""CamVid in the SegNet layout: frames in ``<split>/``, label maps in ``<split>annot/``, lists in ``<split>.txt``.

A line of a list is a frame's stem, or SegNet's pair of paths, of which the first one's stem counts; without a list
all images of the folder are the split. Label ids 0, 1, ... are the classes, the id after the last one and 255 are
void. ``classes.txt``, if there is one, names the classes, one a line; otherwise they are CamVid's eleven.
"""

from __future__ import annotations

from pathlib import Path

from nasperc.data.classes_file import read_classes_file
from nasperc.data.image import IMAGE_SUFFIXES, images_by_stem
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.label_map import LabelIds
from nasperc.data.sequences import runs_of
from nasperc.data.split_list import read_split_list
from nasperc.data.video import Frame, VideoDataset
from nasperc.errors import InputError

CAMVID_CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip


def camvid_splits(path: Path) -> tuple[str, ...]:
    """The folders that have an ``annot`` folder beside them."""
    names = (folder.name.removesuffix("annot") for folder in path.glob("?*annot") if folder.is_dir())
    return tuple(sorted(name for name in names if (path / name).is_dir()))


def read_camvid(
    path: Path, split: str, classes: tuple[str, ...] | None = None, rules: ImageRules = AS_STORED
) -> VideoDataset:
    """One split; its runs are the frames of one name prefix at an even step.

    Args:
        path: the data set's folder.
        split: its name.
        classes: names in the order of the ids. None: those of ``classes.txt``, or CamVid's.
        rules: how images are read.

    Raises:
        InputError: a file that is missing or malformed, a frame without annotation or with one of another size,
            or ``classes`` that differ from ``classes.txt``.
    """
    images = images_by_stem(path / split)
    annotations = images_by_stem(path / f"{split}annot")
    stems = _stems(path, split, images)
    for stem in stems:
        if stem not in images:
            raise InputError(
                f"a frame of the split must lie in {split}/ ({', '.join(IMAGE_SUFFIXES)})",
                value=f"no file of the stem '{stem}'",
                where=path / split,
                repair=f"Add the image, or take it off {split}.txt.",
            )
        if stem not in annotations:
            raise InputError(
                "every frame of the split must have an annotation",
                value=f"no file of the stem '{stem}'",
                where=path / f"{split}annot",
                repair=f"Add the label map, or take the frame off {split}.txt.",
            )
    runs = [[Frame.of(images[stem], annotations[stem], rules) for stem in run] for run in runs_of(stems)]
    names = _classes(path, classes)
    return VideoDataset(path.resolve().name, split, names, runs, LabelIds.contiguous(len(names)), rules)


def _stems(path: Path, split: str, images: dict[str, Path]) -> list[str]:
    file = path / f"{split}.txt"
    if file.exists():
        return read_split_list(file, "CamVid", camvid_splits(path), _stem)
    if not images:
        raise InputError(
            "a CamVid split must have images", value="none", where=path / split, repair="Add the images."
        )
    return list(images)


def _stem(line: str) -> str:
    name = Path(line.split()[0]).name
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name


def _classes(path: Path, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    file = path / "classes.txt"
    if not file.exists():
        return CAMVID_CLASSES if wanted is None else wanted
    found = read_classes_file(file)
    if wanted not in (None, found):
        raise InputError(
            f"the classes of this data set are {', '.join(found)}",
            value=", ".join(wanted or ()),
            where=file,
            repair="Use a data set with these classes, or mend the list.",
        )
    return found
