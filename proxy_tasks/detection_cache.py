"""Filling and reading the cache of the detection proxy task: features and FCOS targets of every view.

FCOS targets do not depend on the decoder, so they are computed once. A record is one view; those of
meta-train come first. Features are kept with channels last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from feature_cache.format import TensorSpec
from feature_cache.reader import CacheReader
from feature_cache.writer import CacheWriter
from nasperc.data.batch import collate
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import Sample
from nasperc.errors import InputError
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.fcos.targets import FCOSTargets, fcos_targets
from nasperc.models.features import FeatureSpec
from nasperc.models.targets import stack_targets
from proxy_tasks.base import Progress
from proxy_tasks.cached_records import CachedRecords
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_views import ImageSplit, views

# P3 to P7: targets are made for these.
STRIDES = (8, 16, 32, 64, 128)
# Views that go through the backbone at once.
CHUNK = 8
TARGETS = ("labels", "distances", "centerness")


def level_sizes(crop: int) -> list[tuple[int, int]]:
    """(H, W) of each level of the pyramid on a square crop."""
    return [(-(-crop // stride), -(-crop // stride)) for stride in STRIDES]


def record_specs(
    features: Sequence[FeatureSpec], recipe: DetectionProxyRecipe, most_boxes: int
) -> dict[str, TensorSpec]:
    """The named tensors of one view; boxes are padded to ``most_boxes``, ``box_count`` of them are real."""
    locations = sum(height * width for height, width in level_sizes(recipe.crop))
    specs = {
        spec.name: TensorSpec(
            (-(-recipe.crop // spec.stride), -(-recipe.crop // spec.stride), spec.channels),
            recipe.dtype,
            quantised=recipe.dtype == "uint8",
        )
        for spec in features
    }
    return specs | {
        "labels": TensorSpec((locations,), "int16"),
        "distances": TensorSpec((locations, 4), "float32"),
        "centerness": TensorSpec((locations,), "float32"),
        "boxes": TensorSpec((most_boxes, 4), "float32"),
        "box_labels": TensorSpec((most_boxes,), "int16"),
        "box_crowd": TensorSpec((most_boxes,), "uint8"),
        "box_count": TensorSpec((), "int32"),
        "image_id": TensorSpec((), "int64"),
    }


def write_cache(
    path: Path,
    dataset: DetectionDataset,
    split: ImageSplit,
    backbone: nn.Module,
    normalisation: Normalisation,
    preset: FCOSPreset,
    recipe: DetectionProxyRecipe,
    contents: dict[str, Any],
    attributes: dict[str, Any],
    on_progress: Progress,
) -> None:
    """Compute every view's features and targets and write them to ``path``.

    Args:
        path: of the cache file.
        dataset: the train split.
        split: which of its images are meta-train and meta-val.
        backbone: in evaluation mode.
        normalisation: the backbone's.
        preset: of the head, for the targets.
        recipe: of the proxy task.
        contents: what the cache's fingerprint covers.
        attributes: kept beside.
        on_progress: called with ``caching`` and the fraction done.

    Raises:
        InputError: an image cannot be read, or was written to meanwhile; there is nothing to learn or to measure at
            this size; the disk is full.
    """
    count = len(split.train) * recipe.views + len(split.val) * recipe.val_views
    most_boxes = max(1, max(len(record.boxes) for record in dataset.records))
    features: tuple[FeatureSpec, ...] = backbone.out  # type: ignore[assignment]
    specs = record_specs(features, recipe, most_boxes)
    device = next(backbone.parameters()).device
    # The boxes beside the targets keep their crowd flags: AP ignores crowd in any case.
    ignored = preset.crowd == "ignore" or dataset.difficult
    done, of_train = 0, len(split.train) * recipe.views
    positives = {"meta-train": 0, "meta-val": 0}
    with CacheWriter(path, specs, count, contents, attributes) as writer:
        for samples in _chunks(dataset.while_unchanged(views(dataset, split, recipe))):
            images = collate(samples, normalisation).images.to(device)
            with torch.inference_mode():
                maps = backbone(images)
            records = {
                spec.name: level.float().permute(0, 2, 3, 1)
                for spec, level in zip(features, maps, strict=True)
            }
            targets = stack_targets([_targets(sample, preset, recipe, ignored) for sample in samples])
            found = (targets.labels >= 0).sum(dim=1)
            positives["meta-train"] += int(found[: max(0, of_train - done)].sum())
            positives["meta-val"] += int(found[max(0, of_train - done) :].sum())
            records |= {name: getattr(targets, name) for name in TARGETS}
            records |= _ground_truth(samples, most_boxes)
            writer.append(records)
            done += len(samples)
            on_progress("caching", done / count)
        for part, locations in positives.items():
            if not locations:
                raise InputError(
                    f"{part} must have a location whose target is an object",
                    value=f"none in {count} views of {recipe.crop} x {recipe.crop}",
                    where="recipe keys proxy.short_side and proxy.crop",
                    repair="Objects are too small at this size, or cut off: use larger images, or more views.",
                )


@dataclass(frozen=True)
class FeatureBatch:
    """``features``: (N, C, H, W), channels-last, in the backbone's order; ``targets``: (N, P)."""

    features: list[Tensor]
    targets: FCOSTargets


class DetectionCache(CachedRecords[FeatureBatch]):
    """The proxy task's view of a cache file.

    Args:
        reader: of the file.
        features: names of the backbone's features.
        train: number of meta-train records; the others are meta-val.
        device: of the batches.
    """

    def __init__(
        self, reader: CacheReader, features: Sequence[str], train: int, device: torch.device | None = None
    ) -> None:
        super().__init__(train, len(reader) - train, device or reader.device)
        self.reader = reader
        self.features = tuple(features)

    def load(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> FeatureBatch:
        rows = self.reader.batch((*self.features, *TARGETS), indices)
        rows = {name: tensor.to(self.device) for name, tensor in rows.items()}
        return FeatureBatch(
            [rows[name].permute(0, 3, 1, 2).to(dtype) for name in self.features],
            FCOSTargets(rows["labels"].long(), rows["distances"], rows["centerness"]),
        )


def _chunks(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    while chunk := list(islice(samples, CHUNK)):
        yield chunk


def _targets(sample: Sample, preset: FCOSPreset, recipe: DetectionProxyRecipe, ignored: bool) -> FCOSTargets:
    """``ignored``: what lies in crowd; otherwise it is background."""
    assert sample.boxes is not None
    assert sample.labels is not None
    assert sample.crowd is not None
    kept = torch.ones_like(sample.crowd) if ignored else ~sample.crowd
    return fcos_targets(
        sample.boxes[kept],
        sample.labels[kept],
        sample.crowd[kept],
        level_sizes(recipe.crop),
        STRIDES,
        preset.sizes_of_interest,
        preset.centre_sampling_radius,
        recipe.interest_scale,
    )


def _ground_truth(samples: Sequence[Sample], most_boxes: int) -> dict[str, Tensor]:
    boxes = torch.zeros(len(samples), most_boxes, 4)
    labels = torch.zeros(len(samples), most_boxes, dtype=torch.int16)
    crowd = torch.zeros(len(samples), most_boxes, dtype=torch.uint8)
    counts = np.zeros(len(samples), np.int32)
    for row, sample in enumerate(samples):
        assert sample.boxes is not None
        assert sample.labels is not None
        assert sample.crowd is not None
        counts[row] = count = len(sample.boxes)
        boxes[row, :count] = sample.boxes
        labels[row, :count] = sample.labels.to(torch.int16)
        crowd[row, :count] = sample.crowd.to(torch.uint8)
    return {
        "boxes": boxes,
        "box_labels": labels,
        "box_crowd": crowd,
        "box_count": torch.from_numpy(counts),
        "image_id": torch.tensor([sample.meta.image_id for sample in samples]),
    }
