"""The proxy task ``video_segmentation``: a dynamic cell on cached outputs of a static network (thesis chapter 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import nn

from controllers.base import Candidate
from nasperc.assembly.detector import Searched
from nasperc.assembly.segmenter import CELL, build_static, build_video
from nasperc.errors import InputError
from nasperc.evaluation.cost import measure_module_cost
from nasperc.evaluation.latency import Latency, measure_latency
from nasperc.evaluation.segmentation import SegmentationEvaluation
from nasperc.models.segmenter import Segmenter
from nasperc.models.video_segmenter import LaterFrame
from proxy_tasks.base import Progress, TaskContext, no_progress
from proxy_tasks.cached_task import CachedTask
from proxy_tasks.stopwatch import Stopwatch
from proxy_tasks.video_cache import SequenceCache
from proxy_tasks.video_recipe import VideoProxyRecipe
from proxy_tasks.video_setup import VideoSetup, check_static
from proxy_tasks.video_training import CellTraining, Measurement, count_pixels
from search_spaces.base import Architecture

LATENCY_RUNS = 5


class VideoSegmentationProxy(CachedTask):
    """Trains a dynamic cell, whose classifier starts as the static network's, on cached frames (thesis 6.4.1).

    Costs and latency are those of every frame after the first: the encoder of the static network and the cell, on one
    frame of meta-train.
    """

    Recipe: ClassVar[type[BaseModel]] = VideoProxyRecipe
    recipe: VideoProxyRecipe

    def __init__(self, recipe: BaseModel, context: TaskContext) -> None:
        assert isinstance(recipe, VideoProxyRecipe)
        if CELL not in context.space.parts:
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
