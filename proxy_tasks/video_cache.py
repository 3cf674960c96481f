"""Filling and reading the cache of the video proxy task: what a dynamic cell needs of every frame.

A record is one view of one frame, so that the sequences that share a frame share its record: *dec* and layers 2, 3
and 4 of the static network (channels last), and the label map. Meta-train and meta-val are two files, since their
frames differ in size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from feature_cache.format import TensorSpec
from feature_cache.reader import CacheReader
from feature_cache.writer import CacheWriter
from nasperc.data.batch import collate
from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import SEMANTIC_IGNORE, Sample
from nasperc.errors import InputError
from nasperc.models.segmenter import StaticSegmenter
from nasperc.models.video_segmenter import State
from nasperc.training.segmentation_losses import reduce_labels
from proxy_tasks.base import Progress
from proxy_tasks.cached_records import CachedRecords

# Frames that go through the static network at once.
CHUNK = 8
LABELS = "labels"


def write_frames(
    path: Path,
    samples: Iterator[Sample],
    count: int,
    static: StaticSegmenter,
    normalisation: Normalisation,
    dtype: str,
    contents: dict[str, Any],
    attributes: dict[str, Any],
    on_progress: Progress,
    *,
    reduced_labels: bool,
) -> None:
    """Compute what a cell needs of every sample and write it to ``path``.

    Args:
        path: of the cache file.
        samples: the records in order, of one size.
        count: of them, at least one.
        static: in evaluation mode.
        normalisation: of its input.
        dtype: of the features, as in the recipe.
        contents: what the cache's fingerprint covers.
        attributes: kept beside; ``frame_size`` (H, W) is added.
        on_progress: called with ``caching`` and the fraction done.
        reduced_labels: keep the label maps at the size of the logits instead of their own.

    Raises:
        InputError: a frame cannot be read, or has another size than the first; the disk is full.
    """
    size, samples = _frame_size(samples)
    batches = (
        _records(chunk, static, normalisation, reduced_labels=reduced_labels)
        for chunk in _chunks(_of_one_size(samples, size))
    )
    first = next(batches)
    specs = {
        name: TensorSpec(tuple(values.shape[1:]), "uint8")
        if name == LABELS
        else TensorSpec(tuple(values.shape[1:]), dtype, quantised=dtype == "uint8")
        for name, values in first.items()
    }
    done = 0
    with CacheWriter(path, specs, count, contents, {**attributes, "frame_size": list(size)}) as writer:
        for records in chain([first], batches):
            writer.append(records)
            done += len(records[LABELS])
            on_progress("caching", done / count)


class SequenceBatch(NamedTuple):
    """N sequences of T frames: what the first one leaves, layers 2, 3 and 4 of each later one (channels last), and its
    labels (N, H, W) int64."""

    state: State
    frames: list[list[Tensor]]
    labels: list[Tensor]


class SequenceCache(CachedRecords[SequenceBatch]):
    """Sequences of cached frames.

    Args:
        readers: of meta-train and meta-val.
        records: of each part (S, T) int64, the records of each sequence in its file.
        levels: names of the encoder's levels, the last one being kept from frame to frame, and of *dec*.
        device: of the batches.
    """

    def __init__(
        self,
        readers: tuple[CacheReader, CacheReader],
        records: tuple[Tensor, Tensor],
        levels: Sequence[str],
        device: torch.device,
    ) -> None:
        train, val = records
        super().__init__(len(train), len(val), device)
        self.readers = readers
        self._records = records
        *self._levels, self._dec = levels

    @property
    def frame_size(self) -> tuple[int, int]:
        """(H, W) of the frames that candidates are trained on."""
        height, width = self.readers[0].header.attributes["frame_size"]
        return height, width

    def load(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> SequenceBatch:
        """The sequences at ``indices`` (N,), all of one part, the features in ``dtype``."""
        reader, first, later = self._frames(indices)
        layer4, dec = self._features(reader, (self._levels[-1], self._dec), first, dtype)
        frames = [self._features(reader, self._levels, frame, dtype) for frame in later]
        return SequenceBatch(State(layer4, dec), frames, self.labels(indices))

    def labels(self, indices: Tensor) -> list[Tensor]:
        """Of each frame after the first (N, H, W) int64."""
        reader, _, later = self._frames(indices)
        return [reader.batch([LABELS], frame)[LABELS].to(self.device).long() for frame in later]

    def static_dec(self, indices: Tensor) -> list[Tensor]:
        """The static network's own *dec* of each frame after the first, where a cell has its own."""
        reader, _, later = self._frames(indices)
        return [self._features(reader, [self._dec], frame, torch.float32)[0] for frame in later]

    def _frames(self, indices: Tensor) -> tuple[CacheReader, Tensor, tuple[Tensor, ...]]:
        """The file of some sequences' part; the records of their first frames, and of each later one."""
        part = int(indices[0] >= self.train)
        first, *later = self._records[part][indices - part * self.train].unbind(1)
        return self.readers[part], first, tuple(later)

    def _features(
        self, reader: CacheReader, names: Sequence[str], records: Tensor, dtype: torch.dtype
    ) -> list[Tensor]:
        rows = reader.batch(names, records)
        return [rows[name].to(self.device).permute(0, 3, 1, 2).to(dtype) for name in names]


def _records(
    samples: Sequence[Sample], static: StaticSegmenter, normalisation: Normalisation, *, reduced_labels: bool
) -> dict[str, Tensor]:
    # Not padded to a multiple of 32: that would be another network's view of the border.
    images = collate(samples, normalisation, divisor=1).images
    with torch.inference_mode():
        features = static.encode(images.to(next(static.parameters()).device))
        maps = [*features[-len(static.levels) :], static.decode(features).dec]
    labels = torch.stack([_labels(sample) for sample in samples])
    if reduced_labels:
        labels = reduce_labels(labels, (maps[-1].shape[-2], maps[-1].shape[-1]))
    records = {
        spec.name: each.float().permute(0, 2, 3, 1)
        for spec, each in zip(static.cell_inputs, maps, strict=True)
    }
    return records | {LABELS: labels.to(torch.uint8)}


def _labels(sample: Sample) -> Tensor:
    """Of a frame that is not annotated, which only comes first in a sequence: nothing to learn."""
    if sample.semantic is not None:
        return sample.semantic
    return torch.full(sample.meta.size, SEMANTIC_IGNORE)


def _frame_size(samples: Iterator[Sample]) -> tuple[tuple[int, int], Iterator[Sample]]:
    """(H, W) of the first frame, and all of them again."""
    first = next(samples)
    height, width = first.image.shape[-2:]
    return (int(height), int(width)), chain([first], samples)


def _of_one_size(samples: Iterator[Sample], size: tuple[int, int]) -> Iterator[Sample]:
    for sample in samples:
        height, width = sample.image.shape[-2:]
        if (height, width) != size:
            raise InputError(
                "the frames that candidates are trained on must have one size, and so must those of meta-val",
                value=f"{width}x{height} after {size[1]}x{size[0]}",
                where=sample.meta.file,
                repair="Bring the frames to one size, or set proxy.crop so that every frame holds it.",
            )
        yield sample


def _chunks(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    while chunk := list(islice(samples, CHUNK)):
        yield chunk
