"""Cityscapes: ``leftImg8bit/<split>/<city>/``, ``gtFine/<split>/<city>/``, ``leftImg8bit_sequence/<split>/<city>/``.

Of each snippet of a video one frame is annotated; it and the frame that precedes it (thesis 6.4) are a run of two.
The preceding frames are a download of their own: without them the annotated frames stand alone.
"""

from __future__ import annotations

from pathlib import Path

from nasperc.data.image import images_by_stem
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.label_map import LabelIds
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.data.video import Frame, VideoDataset
from nasperc.errors import InputError

# Label by the id of the data set's own table; every other id from 0 to 33 is ignored in training and evaluation.
TRAIN_IDS = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
    27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
CITYSCAPES_CLASSES = tuple(TRAIN_IDS.values())
CITYSCAPES_IDS = LabelIds(
    {**dict.fromkeys(range(34), SEMANTIC_IGNORE), **{id: label for label, id in enumerate(TRAIN_IDS)}}
)
_IMAGE = "_leftImg8bit"
_LABELS = "_gtFine_labelIds"


def cityscapes_splits(path: Path) -> tuple[str, ...]:
    """The folders of ``leftImg8bit`` that ``gtFine`` has too."""
    names = (folder.name for folder in (path / "leftImg8bit").glob("*") if folder.is_dir())
    return tuple(sorted(name for name in names if (path / "gtFine" / name).is_dir()))


def read_cityscapes(
    path: Path, split: str, classes: tuple[str, ...] | None = None, rules: ImageRules = AS_STORED
) -> VideoDataset:
    """One split: of every city, the annotated frames in the order of their names, each after its predecessor.

    Args:
        path: the data set's folder.
        split: its name.
        classes: must be the nineteen, if given.
        rules: how images are read.

    Raises:
        InputError: a file that is missing or malformed, an annotation of another size, other classes.
    """
    if classes not in (None, CITYSCAPES_CLASSES):
        raise InputError(
            f"the classes of Cityscapes are {', '.join(CITYSCAPES_CLASSES)}",
            value=", ".join(classes or ()),
            where=path,
            repair="Use a data set with these classes.",
        )
    cities = sorted(folder.name for folder in (path / "leftImg8bit" / split).glob("*") if folder.is_dir())
    runs = [run for city in cities for run in _city(path, f"{split}/{city}", rules)]
    if not runs:
        raise InputError(
            "a Cityscapes split must have images named <city>_<sequence>_<frame>_leftImg8bit",
            value="none",
            where=path / "leftImg8bit" / split,
            repair=f"Splits found: {', '.join(cityscapes_splits(path)) or 'none'}.",
        )
    return VideoDataset(path.resolve().name, split, CITYSCAPES_CLASSES, runs, CITYSCAPES_IDS, rules)


def _city(path: Path, city: str, rules: ImageRules) -> list[list[Frame]]:
    images = images_by_stem(path / "leftImg8bit" / city)
    labels = images_by_stem(path / "gtFine" / city)
    video = path / "leftImg8bit_sequence" / city
    frames = images_by_stem(video) if video.is_dir() else {}
    runs = []
    for stem, image in images.items():
        if not stem.endswith(_IMAGE):
            continue
        name = stem.removesuffix(_IMAGE)
        if name + _LABELS not in labels:
            raise InputError(
                "every image of gtFine's splits must have an annotation",
                value=f"no file {name}{_LABELS}.png",
                where=path / "gtFine" / city,
                repair="Add the label map, or take the image away.",
            )
        run = [Frame.of(image, labels[name + _LABELS], rules)]
        before = frames.get(_previous(name, image) + _IMAGE)
        runs.append(run if before is None else [Frame.of(before, None, rules), *run])
    return runs


def _previous(name: str, image: Path) -> str:
    place, _, number = name.rpartition("_")
    if not number.isdecimal():
        raise InputError(
            "an image of Cityscapes must be named <city>_<sequence>_<frame>_leftImg8bit",
            value=image.name,
            where=image.parent,
            repair="Restore its name.",
        )
    return f"{place}_{int(number) - 1:0{len(number)}d}"
