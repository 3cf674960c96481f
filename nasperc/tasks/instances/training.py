"""Full training of instance segmenters, on the data path, the plan and the baselines of detectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasperc.assembly.detector import Baseline, Decoder
from nasperc.data.dataset import DetectionDataset
from nasperc.models.detector import Detector
from nasperc.models.instance_segmenter import InstanceSegmenter, WholeSegmenter
from nasperc.recipe.root import Recipe
from nasperc.tasks.detection.training import DetectionTraining
from nasperc.tasks.instances.models import InstancesRecipe, build_segmenter
from nasperc.tasks.instances.tables import MaskTables, mask_metrics
from nasperc.tasks.instances.trained import describe_segmenter
from nasperc.tasks.row import Job
from nasperc.tasks.training import Found


class InstancesTraining(DetectionTraining):
    """As of detectors; the recipe's section ``task`` says which segmenter."""

    presentation = MaskTables()
    masks = True

    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Found | None) -> None:
        super().__init__(recipe, prepared, searched, found)
        options = {} if recipe.task is None else recipe.task.options
        self._options = InstancesRecipe.model_validate(options)

    def network(self, part: Decoder) -> InstanceSegmenter:
        return build_segmenter(self.recipe.model, self._options, part, len(self._classes))

    def whole(self, model: Detector) -> WholeSegmenter:
        """With the masks of 100 instances."""
        assert isinstance(model, InstanceSegmenter)
        return WholeSegmenter(model)

    def row_name(self, baseline: Baseline) -> str:
        """Its neck and head are those of a detector; the row is not."""
        return f"{self._options.title()} ({super().row_name(baseline)})"

    def describe(self, job: Job) -> dict[str, Any]:
        assert job.part is not None
        return describe_segmenter(self.recipe.model, job.part, self.recipe.space, self._options)

    def metrics(self, dataset: DetectionDataset, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return mask_metrics(dataset, found)
