"""The proxy task ``video_segmentation``: a dynamic cell on cached outputs of a static network (thesis chapter 6)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import nn

from controllers.base import Candidate
from nasperc.assembly.detector import Searched
from nasperc.assembly.segmenter import CELL, build_video
from nasperc.errors import InputError
from nasperc.evaluation.cost import Cost, measure_cost, measure_module_cost, shapes_only
from nasperc.evaluation.miou import SegmentationEvaluation
from nasperc.evaluation.video_latency import FollowingFrame
from nasperc.models.segmenter import Segmenter
from nasperc.models.video_segmenter import VideoSegmenter
from proxy_tasks.base import Progress, TaskContext, no_progress
from proxy_tasks.cached_setup import DataIdentity
from proxy_tasks.cached_task import CachedTask, described_data
from proxy_tasks.stopwatch import Stopwatch
from proxy_tasks.video_cache import SequenceCache
from proxy_tasks.video_recipe import VideoProxyRecipe
from proxy_tasks.video_setup import VIDEO, VideoSetup, check_static
from proxy_tasks.video_training import CellStep, CellTraining, SegmentationMeasurement, count_pixels
from search_spaces.base import Architecture


class VideoSegmentationProxy(CachedTask):
    """Trains a dynamic cell, whose classifier starts as the static network's, on cached frames (thesis 6.4.1).

    Costs and latency are those of every frame after the first: the encoder of the static network and the cell, on one
    frame of meta-train.
    """

    Recipe: ClassVar[type[BaseModel]] = VideoProxyRecipe
    fulltrain: ClassVar[str | None] = "video"
    recipe: VideoProxyRecipe
    setup: VideoSetup
    # How the static network is trained.
    sections: ClassVar[tuple[str, ...]] = (VIDEO,)

    def __init__(self, recipe: BaseModel, context: TaskContext) -> None:
        assert isinstance(recipe, VideoProxyRecipe)
        if context.space.part_of(CELL) is None:
            raise InputError(
                "the proxy task video_segmentation needs a space of dynamic cells",
                value=context.space.name,
                where="recipe key proxy.name",
                repair="Search with --space dynamic_cell, or choose another proxy task.",
            )
        super().__init__(recipe, context)
        self.setup = VideoSetup(recipe, context)
        self._cache: SequenceCache | None = None
        self._static: Segmenter | None = None

    @property
    def cache(self) -> SequenceCache:
        """The open cache."""
        if self._cache is None:
            raise RuntimeError("prepare() must be called first")
        return self._cache

    @property
    def static(self) -> Segmenter:
        """The static network; no candidate runs it."""
        if self._static is None:
            raise RuntimeError("prepare() must be called first")
        return self._static

    def prepare(self, on_progress: Progress = no_progress) -> None:
        """See :meth:`ProxyTask.prepare`; a stage that overrides what the cache depends on is refused here."""
        for stage in self.space.stages():
            self.recipe.for_stage(stage.overrides)
        self._read_data(on_progress)
        setup = self.setup
        setup.build(on_progress)
        train, val = readers = setup.open("train"), setup.open("val")
        self._static, weights = setup.static(on_progress)
        for reader in readers:
            check_static(reader, weights)
        self._keep_on_device(train, val)
        records = setup.parts["train"].records(), setup.parts["val"].records()
        levels = [spec.name for spec in setup.cell_inputs]
        self._cache = SequenceCache(readers, records, levels, self.device)

    def _build(self, candidate: Candidate) -> dict[str, nn.Module]:
        return {CELL: self._video(candidate.architecture, candidate.widths).cell}

    def _training(
        self, candidate: Candidate, modules: dict[str, nn.Module], stopwatch: Stopwatch | None = None
    ) -> CellTraining:
        recipe, classes = self.recipe.for_stage(candidate.overrides), len(self.setup.classes)
        iterations = recipe.iterations(len(self.setup.parts["train"].sequences))
        cell = modules[CELL].to(self.device)
        return CellTraining(cell, self.cache, classes, recipe, iterations, candidate.seed, stopwatch)

    def _video(self, architecture: Architecture, widths: Mapping[str, int]) -> VideoSegmenter:
        searched = Searched(self.space, architecture, widths)
        return build_video(self.setup.context.model, searched, len(self.setup.classes), self.static)

    def _cost(self, modules: dict[str, nn.Module]) -> dict[str, float]:
        """Of encoder and cell: all that runs on a frame after the first."""
        size, encoder = self.cache.frame_size, self._encoder_cost
        *levels, layer4, dec = (
            torch.empty(1, spec.channels, *(-(-side // spec.stride) for side in size), device="meta")
            for spec in self.setup.cell_inputs
        )
        # In training, global pooling would normalise a single value.
        step = shapes_only(CellStep(modules[CELL])).eval()
        cell = measure_module_cost(step, [layer4, dec, *levels, layer4])
        return {"flops": encoder.flops + cell.flops, "params": encoder.params_total + cell.params_total}

    @cached_property
    def _encoder_cost(self) -> Cost:
        """Of one frame; no candidate changes it."""
        return measure_cost(self.static.backbone, self.cache.frame_size)

    def _measured_on(self, data: DataIdentity) -> Mapping[str, Any]:
        parts = self.setup.parts
        return {
            "caches": {part: self.setup.contents_of(part, data) for part in parts},
            "sequences": {part: views.sequences.tolist() for part, views in parts.items()},
        }

    def _timed(self, architecture: Architecture, widths: Mapping[str, int]) -> nn.Module:
        """Encoder and cell."""
        video = self._video(architecture, widths).to(self.device).eval()
        return FollowingFrame(video, self._timed_size)

    @property
    def _timed_size(self) -> tuple[int, int]:
        """One frame."""
        return self.cache.frame_size

    def notes(self) -> list[str]:
        """Frames with an EXIF orientation, the sequences, and what the static network alone has on the frames that give
        the reward."""
        parts, baseline = self.setup.parts, self._static_measurement()
        counts = [len(parts[part].sequences) for part in ("train", "val")]
        return [
            *self.setup.notes,
            *self.setup.dataset.lines(),
            f"{self.setup.dataset.name}: {counts[0]} sequences of {self.recipe.sequence_length} frames to train on, "
            f"{counts[1]} to measure on",
            f"the per-frame network alone, which has seen these frames: reward {baseline.reward:.4f}, "
            f"mIoU {baseline.miou:.4f}",
        ]

    @torch.no_grad()
    def _static_measurement(self) -> SegmentationMeasurement:
        """Of the static network's classifier on the cached *dec* of every frame after the first."""
        evaluation = SegmentationEvaluation(len(self.setup.classes), trimap_width=None)
        cache, classify = self.cache, self.static.classifier
        for indices in cache.val_indices(self.recipe.val_batch_size):
            logits = [classify(dec) for dec in cache.static_dec(indices)]
            count_pixels(evaluation, logits, cache.labels(indices))
        return SegmentationMeasurement.of(evaluation)

    def description(self) -> dict[str, Any]:
        """See :meth:`ProxyTask.description`; ``static_file``: the weights of the network that was cached."""
        contents = self.setup.static_contents
        train, val = (reader.header for reader in self.cache.readers)
        attributes = train.attributes
        return {
            "data": described_data(contents),
            "weights": {
                "sha256": contents["weights"],
                "static_sha256": attributes["static_sha256"],
                "static_file": attributes["static_file"],
            },
            "cache": {"train": train.fingerprint, "val": val.fingerprint},
        }
