"""Which frames a candidate trains on and is measured on, and the views of them that are cached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import Sample
from nasperc.data.sequences import split_sequences
from nasperc.data.transforms import Compose, HorizontalFlip, Pad, RandomCrop, ResizeLongSide, Transform
from nasperc.data.video import VideoDataset
from nasperc.errors import InputError
from proxy_tasks.video_recipe import VideoProxyRecipe


@dataclass(frozen=True)
class FrameViews:
    """One part of the train split as records: view after view of its frames, which are kept once a view however many
    sequences share them.

    ``frames``: of the data set, ascending. ``sequences``: (S, T) int64, places in ``frames``. ``views``: of each.
    """

    frames: tuple[int, ...]
    sequences: Tensor
    views: int

    @classmethod
    def of(cls, sequences: tuple[range, ...], views: int) -> FrameViews:
        """The frames that ``sequences`` need."""
        frames = tuple(sorted({frame for sequence in sequences for frame in sequence}))
        places = {frame: place for place, frame in enumerate(frames)}
        return cls(frames, torch.tensor([[places[frame] for frame in each] for each in sequences]), views)

    def __len__(self) -> int:
        """Number of records."""
        return len(self.frames) * self.views

    def records(self) -> Tensor:
        """(views * S, T) int64: the records of each sequence in each of its views."""
        shift = torch.arange(self.views).repeat_interleave(len(self.sequences)) * len(self.frames)
        return self.sequences.repeat(self.views, 1) + shift[:, None]


def split_frames(dataset: VideoDataset, recipe: VideoProxyRecipe) -> tuple[FrameViews, FrameViews]:
    """Meta-train and meta-val (thesis 6.4.1), in whole contiguous blocks: no frame is in both.

    Raises:
        InputError: no sequences, or too few for two parts.
    """
    split = split_sequences(
        dataset.sequences(recipe.sequence_length),
        dataset.runs,
        fraction=recipe.meta_val,
        block=recipe.block,
        seed=recipe.seed,
    )
    if len(split.train) < 2:
        raise InputError(
            "the train split must have at least two sequences to train on",
            value=len(split.train),
            where="recipe key data.path",
            repair="Use more frames.",
        )
    return FrameViews.of(split.train, recipe.views), FrameViews.of(split.val, 1)


def train_views(
    dataset: VideoDataset, part: FrameViews, recipe: VideoProxyRecipe, normalisation: Normalisation
) -> Iterator[Sample]:
    """The records of meta-train in order. The frames of a run share the window of a view, which is drawn from the
    recipe's seed, the view and the run.

    Raises:
        InputError: a frame cannot be read.
    """
    runs = {frame: number for number, run in enumerate(dataset.runs) for frame in run}
    for view in range(part.views):
        mirrored = recipe.flip and view % 2 == 1
        transform = _transform(recipe, normalisation, mirrored=mirrored)
        drawn: tuple[int, object] = (-1, None)
        for frame in part.frames:
            sample = dataset[frame]
            if drawn[0] != runs[frame]:
                rng = np.random.default_rng([recipe.seed, 1, view, runs[frame]])
                drawn = (runs[frame], transform.draw(sample, rng))
            yield transform.apply(sample, drawn[1])


def val_frames(dataset: VideoDataset, part: FrameViews, recipe: VideoProxyRecipe) -> Iterator[Sample]:
    """The records of meta-val in order: no transformation but the size, and labels as they were annotated.

    Raises:
        InputError: a frame cannot be read.
    """
    for frame in part.frames:
        sample = dataset[frame]
        if recipe.long_side is None:
            yield sample
        else:
            resized = ResizeLongSide(recipe.long_side).apply(sample)
            yield sample.with_fields(image=resized.image)


def _transform(recipe: VideoProxyRecipe, normalisation: Normalisation, *, mirrored: bool) -> Transform:
    transforms: list[Transform] = []
    if recipe.long_side is not None:
        transforms.append(ResizeLongSide(recipe.long_side))
    if recipe.pad is not None:
        transforms.append(Pad((recipe.pad, recipe.pad), normalisation.mean_colour))
    # A frame that is smaller than the window stays as it is: 480x400 is not cropped to 600x600.
    transforms.append(RandomCrop(recipe.crop, pad=False))
    if mirrored:
        transforms.append(HorizontalFlip(1.0))
    return Compose(*transforms)
