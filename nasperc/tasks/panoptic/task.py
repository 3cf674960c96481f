"""The task ``panoptic``: things and stuff of every pixel, by instance segmenters with what tells stuff beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from nasperc.assembly.detector import Decoder
from nasperc.models.panoptic.segmenter import WholePanoptic
from nasperc.recipe.root import Recipe as RunRecipe
from nasperc.tasks.detection.task import DetectionTask
from nasperc.tasks.panoptic.models import MODELS, PanopticRecipe, build_panoptic
from nasperc.tasks.panoptic.trained import TrainedPanoptic, read_panoptic_network
from nasperc.tasks.panoptic.training import PanopticTraining


class PanopticTask(DetectionTask):
    """See :class:`Task`; it takes the architectures that detectors take."""

    name = "panoptic"
    models = MODELS
    Recipe: ClassVar[type[BaseModel]] = PanopticRecipe
    Training = PanopticTraining

    @classmethod
    def read(cls, content: Mapping[str, Any], path: Path) -> TrainedPanoptic:
        return read_panoptic_network(content, path)

    @classmethod
    def network(  # type: ignore[override]
        cls, recipe: RunRecipe, decoder: Decoder, size: tuple[int, int]
    ) -> WholePanoptic:
        options = PanopticRecipe.model_validate({} if recipe.task is None else recipe.task.options)
        counts = recipe.cost.classes, recipe.cost.stuff
        return WholePanoptic(build_panoptic(recipe.model, options, decoder, *counts, load_weights=False))
