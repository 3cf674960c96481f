"""Training batches: read, augmented and collated ahead of the training loop by threads."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from nasperc.data.batch import Batch, collate
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.data.transforms import Compose, HorizontalFlip, MultiScaleResize, RandomCrop, Transform
from nasperc.models.features import DIVISOR
from nasperc.training.peers import Peers
from nasperc.training.recipe import TrainingRecipe
from nasperc.training.sampler import batch_indices

AHEAD = 2
MOST_READERS = 8


def readers() -> int:
    """Threads that make batches: where a GPU trains, the cores have nothing else to do."""
    return min(MOST_READERS, os.cpu_count() or 1) if torch.cuda.is_available() else 1


def training_transform(recipe: TrainingRecipe) -> Transform:
    """Multi-scale resize, flip and, where the recipe says so, a random crop that keeps a box."""
    transforms: list[Transform] = [MultiScaleResize(recipe.short_sides, recipe.max_long_side)]
    if recipe.flip > 0:
        transforms.append(HorizontalFlip(recipe.flip))
    if recipe.crop is not None:
        transforms.append(RandomCrop((recipe.crop, recipe.crop)))
    return Compose(*transforms)


class Batches(ABC):
    """Batches by iteration; batch ``step`` is a pure function of ``step`` and of what they were made with."""

    @abstractmethod
    def __getitem__(self, step: int) -> Batch:
        """The batch of one iteration, or this process's part of it.

        Raises:
            InputError: an image cannot be read.
        """

    def ahead(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches ``start`` to ``stop - 1``, the next ones being made while the caller works on one."""
        pending: deque[Future[Batch]] = deque()
        threads = readers()
        with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="batches") as pool:
            try:
                for step in range(start, stop):
                    while len(pending) < AHEAD + threads and step + len(pending) < stop:
                        pending.append(pool.submit(self.__getitem__, step + len(pending)))
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()


class TrainingBatches(Batches):
    """Of a detector, whose ``divisor`` they are padded to.

    Of several processes each makes its part, with the images and augmentation of one alone.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        recipe: TrainingRecipe,
        normalisation: Normalisation,
        seed: int,
        peers: Peers | None = None,
        divisor: int = DIVISOR,
    ) -> None:
        self._dataset, self._recipe, self._normalisation, self._seed = dataset, recipe, normalisation, seed
        self._divisor = divisor
        self._part = (peers or Peers()).part(recipe.batch_size)
        self._transform = training_transform(recipe)

    def __getitem__(self, step: int) -> Batch:
        indices = batch_indices(len(self._dataset), self._recipe.batch_size, self._seed, step)
        samples = [
            self._transform(self._dataset[indices[place]], np.random.default_rng([self._seed, step, place]))
            for place in self._part
        ]
        return collate(samples, self._normalisation, self._divisor)
