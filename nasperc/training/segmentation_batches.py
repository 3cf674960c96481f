"""Training batches of segmentation: single frames, and sequences of consecutive frames."""

from __future__ import annotations

import numpy as np
import torch

from nasperc.data.batch import Batch, collate
from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import SEMANTIC_IGNORE, Sample
from nasperc.data.transforms import Compose, HorizontalFlip, Pad, RandomCrop, RandomScale, Transform
from nasperc.data.video import VideoDataset
from nasperc.training.batches import Batches
from nasperc.training.sampler import batch_indices
from nasperc.training.segmentation_recipe import Scales, StaticTrainingRecipe, VideoTrainingRecipe


class FrameBatches(Batches):
    """Of annotated frames, each augmented by itself."""

    def __init__(
        self, dataset: VideoDataset, recipe: StaticTrainingRecipe, normalisation: Normalisation, seed: int
    ) -> None:
        self._dataset, self._batch_size, self._seed = dataset, recipe.batch_size, seed
        self._normalisation = normalisation
        self._frames = dataset.annotated()
        self._transform = frame_transform(recipe, normalisation)

    @property
    def examples(self) -> int:
        """Frames of an epoch."""
        return len(self._frames)

    def __getitem__(self, step: int) -> Batch:
        indices = batch_indices(len(self._frames), self._batch_size, self._seed, step)
        samples = [
            self._transform(self._dataset[self._frames[index]], np.random.default_rng([self._seed, step, k]))
            for k, index in enumerate(indices)
        ]
        return collate(samples, self._normalisation, divisor=1)


class SequenceBatches(Batches):
    """Of sequences, one frame after another: the first frames of all sequences, then the second ones, ...

    All frames of a sequence are transformed alike. Where a frame is not annotated its labels are ignored ones.

    Args:
        dataset: of the frames; all sequences of the recipe's length are used.
        batch_size: in sequences.
        recipe: says how long they are and how they are augmented.
        normalisation: the backbone's.
        seed: of order and augmentation.

    Raises:
        InputError: there is no such sequence, or a run that is shorter.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        batch_size: int,
        recipe: VideoTrainingRecipe,
        normalisation: Normalisation,
        seed: int,
    ) -> None:
        self._dataset, self._batch_size, self._seed = dataset, batch_size, seed
        self._normalisation = normalisation
        self._sequences = dataset.sequences(recipe.sequence_length)
        self._transform = sequence_transform(recipe, normalisation)

    @property
    def examples(self) -> int:
        """Sequences of an epoch."""
        return len(self._sequences)

    def __getitem__(self, step: int) -> Batch:
        indices = batch_indices(len(self._sequences), self._batch_size, self._seed, step)
        sequences = []
        for k, index in enumerate(indices):
            frames = [_labelled(self._dataset[frame]) for frame in self._sequences[index]]
            sequences.append(self._transform.sequence(frames, np.random.default_rng([self._seed, step, k])))
        in_time = [sample for frames in zip(*sequences, strict=True) for sample in frames]
        return collate(in_time, self._normalisation, divisor=1)


def frame_transform(recipe: StaticTrainingRecipe, normalisation: Normalisation) -> Transform:
    """Thesis A.1: scale, flip, pad to the crop, crop."""
    return Compose(
        *_scale_and_flip(recipe.scales, recipe.flip),
        Pad(recipe.crop, normalisation.mean_colour),
        RandomCrop(recipe.crop),
    )


def sequence_transform(recipe: VideoTrainingRecipe, normalisation: Normalisation) -> Transform:
    """Thesis 6.4.2: the short side padded with the mean colour, then cropped."""
    transforms = _scale_and_flip(recipe.scales, recipe.flip)
    if recipe.pad is not None:
        transforms.append(Pad((recipe.pad, recipe.pad), normalisation.mean_colour))
    return Compose(*transforms, RandomCrop(recipe.crop, pad=False))


def _scale_and_flip(scales: Scales, flip: float) -> list[Transform]:
    transforms: list[Transform] = []
    if scales != (1.0, 1.0):
        transforms.append(RandomScale(*scales))
    if flip > 0:
        transforms.append(HorizontalFlip(flip))
    return transforms


def _labelled(sample: Sample) -> Sample:
    if sample.semantic is not None:
        return sample
    size = sample.image.shape[-2:]
    return sample.with_fields(semantic=torch.full(size, SEMANTIC_IGNORE, dtype=torch.int64))
