"""Recipe -> data: opening a split, the synthetic data set written first where no folder is named."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from feature_cache.format import fingerprint
from nasperc.data.classes_file import read_classes_file
from nasperc.data.dataset import DetectionDataset
from nasperc.data.formats import open_dataset
from nasperc.data.recipe import DataRecipe
from nasperc.data.synthetic import write_synthetic

Role = Literal["train", "val", "test"]


def open_split(data: DataRecipe, split: Role, folder: Path, *, masks: bool = False) -> DetectionDataset:
    """The split that plays the part ``split`` in the recipe, e.g. ``train`` -> ``data.train_split``.

    Args:
        data: the recipe's data section.
        split: train, val or test.
        folder: where the synthetic data set is written when ``data.path`` is None; one sub-folder a variant.
        masks: keep the segmentations.

    Raises:
        InputError: anything wrong with the data set.
    """
    path = data.path if data.path is not None else synthetic_folder(data, folder)
    # The synthetic data set has its own names; the recipe's belong to a folder that it names.
    names = {"train": data.train_split, "val": data.val_split, "test": data.test_split}
    train, name = ("train", split) if data.path is None else (names["train"], names[split])
    return open_dataset(
        path,
        name,
        format="coco" if data.path is None else data.format,
        classes=None if data.classes is None else read_classes_file(data.classes),
        strict=data.strict,
        masks=masks,
        train_split=train,
    )


def synthetic_folder(data: DataRecipe, folder: Path) -> Path:
    """Write the recipe's synthetic data set below ``folder`` unless it is there already: ``coco/`` (which is read,
    with masks) and ``voc/``."""
    recipe = data.synthetic
    path = folder / f"synthetic-{fingerprint(recipe.model_dump(mode='json'))[:12]}"
    images = {"train": recipe.train, "val": recipe.val, "test": recipe.test}
    written = write_synthetic(
        path, images=images, size=recipe.size, seed=recipe.seed, formats=("voc", "coco")
    )
    return written / "coco"
