"""Full training of detectors on images, beside decoders made by hand at the nearest cost (thesis 7.4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nasperc.assembly.datasets import open_split
from nasperc.assembly.detector import BASELINE_NAMES, Baseline, build_detector
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import get_normalisation
from nasperc.evaluation.coco_ap import coco_ap
from nasperc.evaluation.cost import measure_cost
from nasperc.evaluation.latency import Latency, measure_latency
from nasperc.fulltrain.baseline import baseline_costs, choose_baseline, cost_size
from nasperc.fulltrain.coco_tables import CocoTables
from nasperc.fulltrain.loss_log import LossLog
from nasperc.fulltrain.row import CHECKPOINT, Activity, Job, Workers
from nasperc.fulltrain.task import LATENCY_RUNS, LATENCY_WARMUP, FullTask, report_images, roles
from nasperc.fulltrain.trained_detector import describe
from nasperc.models.detector import Detector
from nasperc.recipe.root import Recipe
from nasperc.search.top10 import Top10File
from nasperc.training.detect import detect_dataset
from nasperc.training.detection import train
from nasperc.training.device import to_device
from nasperc.training.loop import TrainingResult

ON_CPU = "On CPU a BatchNorm in training sees one worker's part of a batch only: the losses differ from one worker's."


class DetectionTask(FullTask[Detector, DetectionDataset]):
    """The recipe's sections ``model``, ``fulltrain``, ``baselines`` and ``seed`` count."""

    names = ("fcos",)
    presentation = CocoTables()
    examples = "images"
    rate = "fulltrain.learning_rate"

    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Top10File | None) -> None:
        self.recipe = recipe
        self.splits = {role: open_split(recipe.data, role, prepared) for role in roles(recipe.data)}
        self.size = cost_size(recipe.fulltrain.test_short_side)
        self._classes = self.splits["train"].classes

    def check_workers(self, workers: int) -> list[str]:
        return [ON_CPU] if workers > 1 and not torch.cuda.is_available() else []

    def baselines(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that the recipe names, at the cost of the first entry."""
        recipe, num_classes, first = self.recipe, len(self._classes), jobs[0].part
        assert first is not None
        best = build_detector(recipe.model, first, num_classes, load_weights=False)
        target = measure_cost(best, self.size).flops
        found = []
        for kind in dict.fromkeys(recipe.baselines):
            like = Baseline(kind=kind, anchor_scale=recipe.fulltrain.sizes_of_interest_scale)
            baseline = choose_baseline(target, baseline_costs(recipe.model, num_classes, self.size, like))
            place = f"{kind}-{baseline.fpn_width}-{baseline.head_width}x{baseline.depth}"
            found.append(Job(BASELINE_NAMES[kind], place, baseline))
        return found

    def iterations(self, job: Job) -> int:
        return self.recipe.fulltrain.iterations

    def budget(self) -> str:
        return f"{self.recipe.fulltrain.iterations} iterations each"

    def build(self, job: Job) -> tuple[Detector, dict[str, Any]]:
        assert job.part is not None
        model = build_detector(self.recipe.model, job.part, len(self._classes))
        cost = measure_cost(model, self.size)
        to_device(model)
        depth = job.part.depth if isinstance(job.part, Baseline) else None
        return model, {"depth": depth, "flops": cost.flops, "params": cost.params_trainable}

    def train(
        self, model: Detector, job: Job, folder: Path, on_activity: Activity, workers: Workers | None
    ) -> TrainingResult:
        recipe, settings, checkpoint = self.recipe, self.recipe.fulltrain, folder / CHECKPOINT
        assert job.part is not None
        description = describe(recipe.model, job.part, recipe.space)
        with LossLog(folder / "log.csv") as log:

            def on_step(step: int, losses: dict[str, float]) -> None:
                log.write(step, losses)
                on_activity("training", step / settings.iterations, f"loss {log.mean():.3f}")

            return train(
                model,
                self.splits["train"],
                settings,
                seed=recipe.seed,
                normalisation=get_normalisation(recipe.model.backbone.input_normalisation()),
                checkpoint=checkpoint,
                description=description,
                on_step=on_step,
                elsewhere=None if workers is None else partial(workers, description, checkpoint),
            )

    def measure(self, model: Detector, split: str, on_activity: Activity) -> dict[str, Any]:
        settings, dataset = self.recipe.fulltrain, self.splits[split]
        found = detect_dataset(
            model,
            dataset,
            get_normalisation(self.recipe.model.backbone.input_normalisation()),
            settings.test_short_side,
            settings.max_long_side,
            on_image=partial(report_images, on_activity, split, len(dataset)),
        )
        return coco_ap(dataset.coco_ground_truth(), found).as_dict()

    def can_measure(self, split: str) -> bool:
        return self.splits[split].objects() > 0

    def latency(self, model: Detector) -> Latency:
        return measure_latency(model, self.size, runs=LATENCY_RUNS, warmup=LATENCY_WARMUP)
