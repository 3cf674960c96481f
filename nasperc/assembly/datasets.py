"""Recipe -> data: opening a split, the synthetic data set written first where no folder is named."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from feature_cache.format import fingerprint
from nasperc.data.classes_file import read_classes_file
from nasperc.data.dataset import DetectionDataset
from nasperc.data.formats import open_dataset, open_video
from nasperc.data.panoptic import PanopticDataset
from nasperc.data.panoptic_formats import classes_of_panoptic, open_panoptic
from nasperc.data.recipe import DataRecipe, SyntheticRecipe
from nasperc.data.synthetic import write_synthetic
from nasperc.data.synthetic_panoptic import write_synthetic_panoptic
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.data.video import VideoDataset
from nasperc.errors import InputError

Role = Literal["train", "val", "test"]


def open_split(data: DataRecipe, split: Role, folder: Path, *, masks: bool = False) -> DetectionDataset:
    """The split that plays the part ``split`` in the recipe, e.g. ``train`` -> ``data.train_split``; val and test with
    the recipe's own annotations, where it names any.

    Args:
        data: the recipe's data section.
        split: train, val or test.
        folder: where the synthetic data set is written when ``data.path`` is None; one sub-folder a variant.
        masks: read the shapes of the objects, too.

    Raises:
        InputError: anything wrong with the data set; masks asked for where there are none; a train split without an
            object to learn.
    """
    dataset = open_dataset(
        data.path if data.path is not None else synthetic_folder(data, folder),
        _split_name(data, split),
        format="coco" if data.path is None else data.format,
        classes=None if data.classes is None else read_classes_file(data.classes),
        strict=data.strict,
        masks=masks,
        train_split=_split_name(data, "train"),
        rules=data.images,
        one_class=data.one_class,
        annotations=None if split == "train" else data.annotations,
    )
    if split == "train":
        _check_shows_object(dataset, data.path)
    return dataset


def _check_shows_object(dataset: DetectionDataset, path: Path | None) -> None:
    if dataset.objects():
        return
    # All that there are.
    crowd = sum(len(record.crowd) for record in dataset.records)
    kind = "difficult" if dataset.difficult else "crowd"
    dropped = dataset.report.dropped + dataset.report.without_mask
    raise InputError(
        "the train split must show at least one object to learn",
        value=f"none in {len(dataset)} images ({crowd} {kind}, {dropped} dropped)",
        where=f"{path} {dataset.split}",
        repair="Annotate it, or name another split with --set data.train_split=NAME.",
    )


def open_panoptic_split(data: DataRecipe, split: Role, folder: Path) -> PanopticDataset:
    """As :func:`open_split`, of a panoptic data set. ``data.classes`` lists its things, and all stuff or none of it.

    Raises:
        InputError: anything wrong with the data set; a train split without a thing to learn.
    """
    path = data.path if data.path is not None else synthetic_panoptic_folder(data, folder)
    form = "coco_panoptic" if data.path is None else data.format
    train = _split_name(data, "train")
    classes = classes_of_panoptic(path, train, form)
    if data.classes is not None:
        classes = classes.ordered(read_classes_file(data.classes), data.classes)
    dataset = open_panoptic(
        path,
        _split_name(data, split),
        format=form,
        classes=classes,
        strict=data.strict,
        rules=data.images,
        annotations=None if split == "train" else data.annotations,
    )
    if data.one_class:
        dataset.as_one_class()
    if split == "train":
        _check_shows_object(dataset, data.path)
    return dataset


def open_video_split(data: DataRecipe, split: Role, folder: Path) -> VideoDataset:
    """As :func:`open_split`, of a data set of videos with label maps.

    Raises:
        InputError: anything wrong with the data set; a train split of which no pixel has a class.
    """
    if data.path is None:
        return open_video(synthetic_video_folder(data, folder), split, format="camvid", rules=data.images)
    classes = None if data.classes is None else read_classes_file(data.classes)
    dataset = open_video(
        data.path, _split_name(data, split), format=data.format, classes=classes, rules=data.images
    )
    if split == "train":
        check_shows_class(dataset, dataset.annotated(), "the train split")
    return dataset


def check_shows_class(dataset: VideoDataset, frames: Collection[int], part: str) -> None:
    """Look for a pixel that can be learnt or measured.

    Args:
        dataset: a split.
        frames: annotated ones of it.
        part: what they are, for the message.

    Raises:
        InputError: all is void; a label map cannot be read.
    """
    if not dataset.shows_class(frames):
        raise InputError(
            f"{part} must show at least one pixel of a class",
            value=f"void alone in {len(frames)} annotated frames",
            where=f"{dataset.name} {dataset.split}",
            repair="Annotate it, or use more frames, another seed or another split.",
        )


def _split_name(data: DataRecipe, split: Role) -> str:
    """The synthetic data set has its own names; the recipe's belong to a folder that it names."""
    names = {"train": data.train_split, "val": data.val_split, "test": data.test_split}
    return split if data.path is None else names[split]


def synthetic_folder(data: DataRecipe, folder: Path) -> Path:
    """Write the recipe's synthetic data set below ``folder`` unless it is there already: ``coco/`` (which is read,
    with masks) and ``voc/``."""
    recipe = data.synthetic
    path = folder / f"synthetic-{fingerprint(recipe.model_dump(mode='json'))[:12]}"
    written = write_synthetic(
        path, images=_synthetic_images(recipe), size=recipe.size, seed=recipe.seed, formats=("voc", "coco")
    )
    return written / "coco"


def synthetic_panoptic_folder(data: DataRecipe, folder: Path) -> Path:
    """Write the recipe's synthetic data set with stuff below ``folder`` unless it is there already."""
    recipe = data.synthetic
    path = folder / f"synthetic-panoptic-{fingerprint(recipe.model_dump(mode='json'))[:12]}"
    return write_synthetic_panoptic(
        path, images=_synthetic_images(recipe), size=recipe.size, seed=recipe.seed
    )


def _synthetic_images(recipe: SyntheticRecipe) -> dict[str, int]:
    return {"train": recipe.train, "val": recipe.val, "test": recipe.test}


def synthetic_video_folder(data: DataRecipe, folder: Path) -> Path:
    """Write the recipe's synthetic videos below ``folder`` unless they are there already."""
    recipe = data.synthetic_video
    path = folder / f"synthetic-video-{fingerprint(recipe.model_dump(mode='json'))[:12]}"
    videos = {"train": recipe.train, "val": recipe.val, "test": recipe.test}
    return write_synthetic_video(
        path, videos=videos, frames=recipe.frames, size=recipe.size, seed=recipe.seed
    )
