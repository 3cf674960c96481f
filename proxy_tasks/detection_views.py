"""Which images a candidate trains on, and the views (crops and flips) of each image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nasperc.data.dataset import DetectionDataset
from nasperc.data.sample import Sample
from nasperc.data.transforms import Compose, HorizontalFlip, RandomCrop, Resize
from nasperc.errors import InputError
from proxy_tasks.detection_recipe import DetectionProxyRecipe

# A crop is cut from the short side; the long side is never the limit.
NO_LIMIT = 1 << 20


@dataclass(frozen=True)
class ImageSplit:
    """Indices into the train split: images to train on and images that give the reward, each ascending."""

    train: tuple[int, ...]
    val: tuple[int, ...]


def split_images(count: int, recipe: DetectionProxyRecipe) -> ImageSplit:
    """A random split of ``count`` images into meta-train and meta-val (thesis 7.3.3).

    Raises:
        InputError: fewer than two images.
    """
    if count < 2:
        raise InputError(
            "the train split must have at least two images: one to train on, one to measure on",
            value=count,
            where="recipe key data.path",
            repair="Use a larger data set.",
        )
    cut = min(max(round(count * recipe.meta_train), 1), count - 1)
    order = np.random.default_rng([recipe.seed, 0]).permutation(count).tolist()
    return ImageSplit(tuple(sorted(order[:cut])), tuple(sorted(order[cut:])))


def views(dataset: DetectionDataset, split: ImageSplit, recipe: DetectionProxyRecipe) -> Iterator[Sample]:
    """All records in order: ``recipe.views`` views of each meta-train image, then those of meta-val.

    Each view has its own random numbers, from the recipe's seed, the image and the view's number; meta-val is
    cropped but not mirrored. Boxes are in pixels of the crop.

    Raises:
        InputError: an image cannot be read.
    """
    resize = Resize(recipe.short_side, NO_LIMIT)
    crop = RandomCrop((recipe.crop, recipe.crop))
    training = Compose(crop, HorizontalFlip(recipe.flip))
    for part, (images, count, transform) in enumerate(
        ((split.train, recipe.views, training), (split.val, recipe.val_views, crop))
    ):
        for image in images:
            sample = dataset[image]
            sample = resize.apply(sample, recipe.short_side)
            for view in range(count):
                yield transform(sample, np.random.default_rng([recipe.seed, 1 + part, image, view]))
