"""The task ``instances``: masks of objects in images, by segmenters on the necks and heads of detectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from nasperc.assembly.detector import Decoder
from nasperc.models.instance_segmenter import WholeSegmenter
from nasperc.recipe.root import Recipe as RunRecipe
from nasperc.tasks.detection.task import DetectionTask
from nasperc.tasks.instances.models import MODELS, InstancesRecipe, build_segmenter
from nasperc.tasks.instances.trained import TrainedInstances, read_segmenter
from nasperc.tasks.instances.training import InstancesTraining


class InstancesTask(DetectionTask):
    """See :class:`Task`; it takes the architectures that detectors take."""

    name = "instances"
    models = MODELS
    Recipe: ClassVar[type[BaseModel]] = InstancesRecipe
    Training = InstancesTraining

    @classmethod
    def read(cls, content: Mapping[str, Any], path: Path) -> TrainedInstances:
        return read_segmenter(content, path)

    @classmethod
    def network(  # type: ignore[override]
        cls, recipe: RunRecipe, decoder: Decoder, size: tuple[int, int]
    ) -> WholeSegmenter:
        options = InstancesRecipe.model_validate({} if recipe.task is None else recipe.task.options)
        model = build_segmenter(recipe.model, options, decoder, recipe.cost.classes, load_weights=False)
        return WholeSegmenter(model)
