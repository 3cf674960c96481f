"""The task ``detection``: boxes of objects in images, by FCOS and by the baselines beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from nasperc.assembly.detector import Baseline, Decoder, build_detector
from nasperc.assembly.segmenter import CELL
from nasperc.models.detector import Detector
from nasperc.recipe.root import Recipe
from nasperc.tasks.base import Task
from nasperc.tasks.detection.trained import FCOS_MODEL, TrainedDetector, read_detector
from nasperc.tasks.detection.training import DetectionTraining
from search_spaces.base import SearchSpace
from search_spaces.fcos_neck import SearchedFPN


class DetectionTask(Task):
    """See :class:`Task`."""

    name = "detection"
    models: ClassVar[tuple[str, ...]] = (FCOS_MODEL,)
    Training = DetectionTraining

    @classmethod
    def takes(cls, space: SearchSpace) -> bool:
        """One of necks and heads."""
        return space.part_of(CELL) is None

    @classmethod
    def read(cls, content: Mapping[str, Any], path: Path) -> TrainedDetector:
        return read_detector(content, path)

    @classmethod
    def handmade(cls, recipe: Recipe) -> list[Decoder]:
        return [Baseline(kind=kind) for kind in dict.fromkeys(recipe.baselines)]

    @classmethod
    def network(cls, recipe: Recipe, decoder: Decoder, size: tuple[int, int]) -> Detector:
        model = build_detector(recipe.model, decoder, recipe.cost.classes, load_weights=False)
        if recipe.cost.unused_adapters and isinstance(model.neck, SearchedFPN):
            model.neck.run_unused_adapters = True
        return model
