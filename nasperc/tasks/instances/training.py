"""Full training of instance segmenters, on the data path, the plan and the baselines of detectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nasperc.assembly.datasets import open_split
from nasperc.assembly.detector import Baseline
from nasperc.evaluation.cost import measure_cost
from nasperc.evaluation.latency import Latency, measure_latency
from nasperc.models.blendmask.model import BlendMask
from nasperc.models.detector import Detector
from nasperc.recipe.root import Recipe
from nasperc.tasks.detection.training import DetectionTraining
from nasperc.tasks.instances.models import BLENDMASK, InstancesRecipe, build_segmenter
from nasperc.tasks.instances.tables import MaskTables, mask_metrics
from nasperc.tasks.instances.trained import describe_segmenter
from nasperc.tasks.instances.whole import WholeSegmenter
from nasperc.tasks.row import Activity, Job
from nasperc.tasks.training import LATENCY_RUNS, LATENCY_WARMUP, Found, Splits, report_images
from nasperc.training.detect import detect_dataset
from nasperc.training.device import to_device


class InstancesTraining(DetectionTraining):
    """As of detectors; the recipe's section ``task`` says which segmenter."""

    presentation = MaskTables()

    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Found | None) -> None:
        super().__init__(recipe, prepared, searched, found)
        self.splits = Splits(recipe.data, lambda role: open_split(recipe.data, role, prepared, masks=True))
        options = {} if recipe.task is None else recipe.task.options
        self._options = InstancesRecipe.model_validate(options)

    def build(self, job: Job) -> tuple[BlendMask, dict[str, Any]]:
        """FLOPs are those of the whole: detection, bases, and the masks of 100 instances."""
        assert job.part is not None
        classes = len(self.splits["train"].classes)
        model = build_segmenter(self.recipe.model, self._options, job.part, classes)
        cost = measure_cost(WholeSegmenter(model), self.size)
        to_device(model)
        depth = job.part.depth if isinstance(job.part, Baseline) else None
        return model, {"depth": depth, "flops": cost.flops, "params": cost.params_trainable}

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

    def latency(self, model: Detector) -> Latency:
        assert isinstance(model, BlendMask)
        whole = WholeSegmenter(model)
        return measure_latency(whole, self.size, runs=LATENCY_RUNS, warmup=LATENCY_WARMUP)
