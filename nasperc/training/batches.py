"""Training batches: read, augmented and collated ahead of the training loop by a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from nasperc.data.batch import Batch, collate
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.data.transforms import Compose, HorizontalFlip, MultiScaleResize, RandomCrop, Transform
from nasperc.training.recipe import TrainingRecipe
from nasperc.training.sampler import batch_indices

AHEAD = 2


def training_transform(recipe: TrainingRecipe) -> Transform:
    """Multi-scale resize, flip and, where the recipe says so, a random crop that keeps a box."""
    transforms: list[Transform] = [MultiScaleResize(recipe.short_sides, recipe.max_long_side)]
    if recipe.flip > 0:
        transforms.append(HorizontalFlip(recipe.flip))
    if recipe.crop is not None:
        transforms.append(RandomCrop((recipe.crop, recipe.crop)))
    return Compose(*transforms)


class TrainingBatches:
    """Batches by iteration; batch ``step`` is a pure function of the arguments and ``step``."""

    def __init__(
        self, dataset: DetectionDataset, recipe: TrainingRecipe, normalisation: Normalisation, seed: int
    ) -> None:
        self._dataset, self._recipe, self._normalisation, self._seed = dataset, recipe, normalisation, seed
        self._transform = training_transform(recipe)

    def __getitem__(self, step: int) -> Batch:
        """The batch of one iteration.

        Raises:
            InputError: an image cannot be read.
        """
        indices = batch_indices(len(self._dataset), self._recipe.batch_size, self._seed, step)
        samples = [
            self._transform(self._dataset[index], np.random.default_rng([self._seed, step, slot]))
            for slot, index in enumerate(indices)
        ]
        return collate(samples, self._normalisation)

    def ahead(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches ``start`` to ``stop - 1``, the next ones being made while the caller works on one."""
        pending: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
            try:
                for step in range(start, stop):
                    while len(pending) <= AHEAD and step + len(pending) < stop:
                        pending.append(pool.submit(self.__getitem__, step + len(pending)))
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
