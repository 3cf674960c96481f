"""Full training of instance segmenters, on the data path, the plan and the baselines of detectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nasperc.assembly.datasets import open_split
from nasperc.assembly.detector import Decoder
from nasperc.models.blendmask.model import BlendMask
from nasperc.models.detector import Detector
from nasperc.recipe.root import Recipe
from nasperc.tasks.detection.training import DetectionTraining
from nasperc.tasks.instances.models import BLENDMASK, InstancesRecipe, build_segmenter
from nasperc.tasks.instances.tables import MaskTables, mask_metrics
from nasperc.tasks.instances.trained import describe_segmenter
from nasperc.tasks.instances.whole import WholeSegmenter
from nasperc.tasks.row import Activity, Job
from nasperc.tasks.training import Found, Splits, report_images
from nasperc.training.detect import detect_dataset


class InstancesTraining(DetectionTraining):
    """As of detectors; the recipe's section ``task`` says which segmenter."""

    presentation = MaskTables()

    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Found | None) -> None:
        super().__init__(recipe, prepared, searched, found)
        self.splits = Splits(recipe.data, lambda role: open_split(recipe.data, role, prepared, masks=True))
        options = {} if recipe.task is None else recipe.task.options
        self._options = InstancesRecipe.model_validate(options)

    def network(self, part: Decoder) -> BlendMask:
        classes = len(self.splits["train"].classes)
        return build_segmenter(self.recipe.model, self._options, part, classes)

    def whole(self, model: Detector) -> WholeSegmenter:
        """With the masks of 100 instances."""
        assert isinstance(model, BlendMask)
        return WholeSegmenter(model)

    def describe(self, job: Job) -> dict[str, Any]:
        assert job.part is not None
        return describe_segmenter(self.recipe.model, job.part, self.recipe.space, BLENDMASK, self._options)

    def measure(self, model: Detector, split: str, on_activity: Activity) -> dict[str, Any]:
        settings, dataset = self.recipe.fulltrain, self.splits[split]
        found = detect_dataset(
            model,
            dataset,
            self._normalisation,
            settings.test_short_side,
            settings.max_long_side,
            on_image=partial(report_images, on_activity, split, len(dataset)),
        )
        return mask_metrics(dataset, found)
