"""Full training of detectors on images, beside decoders made by hand at the nearest cost (thesis 7.4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nasperc.assembly.datasets import open_split
from nasperc.assembly.detector import BASELINE_NAMES, Baseline, Decoder, build_detector
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import get_normalisation
from nasperc.evaluation.coco_ap import coco_ap
from nasperc.evaluation.cost import measure_cost
from nasperc.evaluation.latency import Latency
from nasperc.models.detector import Detector
from nasperc.recipe.root import Recipe
from nasperc.tasks.detection.baseline import baseline_costs, choose_baseline, cost_size
from nasperc.tasks.detection.tables import CocoTables
from nasperc.tasks.detection.trained import TrainedDetector, describe, read_decoder
from nasperc.tasks.presentation import Presentation
from nasperc.tasks.row import CHECKPOINT, Activity, Job
from nasperc.tasks.training import Found, Phase, Splits, Training
from nasperc.training.detect import detect_dataset
from nasperc.training.detection import detection_plan
from nasperc.training.device import to_device
from nasperc.training.peers import Peers

ON_CPU = "On CPU a BatchNorm in training sees one worker's part of a batch only: the losses differ from one worker's."


class DetectionTraining(Training[Detector, DetectionDataset]):
    """The recipe's sections ``model``, ``fulltrain``, ``baselines`` and ``seed`` count."""

    presentation: ClassVar[Presentation] = CocoTables()
    examples = TrainedDetector.examples
    # Whether the shapes of objects are read.
    masks: ClassVar[bool] = False
    rate = "fulltrain.learning_rate"

    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Found | None) -> None:
        super().__init__(recipe, prepared, searched, found)
        self.splits = self.open_splits(recipe, prepared)
        self.size = cost_size(recipe.fulltrain.test_short_side, Detector.divisor)
        self._classes = self.splits["train"].classes
        self._normalisation = get_normalisation(recipe.model.backbone.input_normalisation())

    def open_splits(self, recipe: Recipe, prepared: Path) -> Splits[DetectionDataset]:
        """Of the recipe's data set; ``prepared`` as for the training."""
        return Splits(recipe.data, lambda role: open_split(recipe.data, role, prepared, masks=self.masks))

    def check_workers(self, workers: int) -> list[str]:
        return [ON_CPU] if workers > 1 and not torch.cuda.is_available() else []

    def baselines(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that the recipe names, at the cost of the first entry."""
        recipe, num_classes, first = self.recipe, len(self._classes), jobs[0].part
        assert first is not None
        best = build_detector(recipe.model, first, num_classes, load_weights=False)
        # Of a detector as the costs are, whatever the rows are: its images may have another divisor than theirs.
        size = cost_size(recipe.fulltrain.test_short_side, best.divisor)
        target = measure_cost(best, size).flops
        found = []
        for kind in dict.fromkeys(recipe.baselines):
            like = Baseline(kind=kind, anchor_scale=recipe.fulltrain.sizes_of_interest_scale)
            baseline = choose_baseline(target, baseline_costs(recipe.model, num_classes, size, like))
            place = f"{kind}-{baseline.fpn_width}-{baseline.head_width}x{baseline.depth}"
            found.append(Job(self.row_name(baseline), place, baseline))
        return found

    def row_name(self, baseline: Baseline) -> str:
        """What the row of a baseline is called."""
        return BASELINE_NAMES[baseline.kind]

    def build(self, job: Job) -> tuple[Detector, dict[str, Any]]:
        assert job.part is not None
        model = self.network(job.part)
        # One for all rows: they are of one model.
        self.size = cost_size(self.recipe.fulltrain.test_short_side, model.divisor)
        cost = measure_cost(self.whole(model), self.size)
        to_device(model)
        depth = job.part.depth if isinstance(job.part, Baseline) else None
        return model, {"depth": depth, "flops": cost.flops, "params": cost.params_trainable}

    def network(self, part: Decoder) -> Detector:
        """The detector that a part makes, the weights of its backbone loaded: another model of the task is another one.

        Raises:
            InputError: weights cannot be used; widths that do not fit.
        """
        return build_detector(self.recipe.model, part, len(self._classes))

    def whole(self, model: Detector) -> nn.Module:
        """What costs and latencies are of, ``whole(images)``: all but suppression, whose time is the image's."""
        return model

    def latency(self, model: Detector) -> Latency:
        return super().latency(self.whole(model))  # type: ignore[arg-type]

    def describe(self, job: Job) -> dict[str, Any]:
        assert job.part is not None
        return describe(self.recipe.model, job.part, self.recipe.space)

    def part(self, description: Mapping[str, Any], where: str) -> Decoder:
        return read_decoder(description, where)

    def phases(self, model: Detector, job: Job, peers: Peers | None = None) -> list[Phase]:
        plan = detection_plan(
            model,
            self.splits["train"],
            self.recipe.fulltrain,
            seed=self.recipe.seed,
            normalisation=self._normalisation,
            description=self.describe(job),
            peers=peers,
        )
        return [Phase(CHECKPOINT, plan)]

    def measure(self, model: Detector, split: str, on_activity: Activity) -> dict[str, Any]:
        settings, dataset = self.recipe.fulltrain, self.splits[split]
        found = detect_dataset(
            model,
            dataset,
            self._normalisation,
            settings.test_short_side,
            settings.max_long_side,
            on_image=lambda done: self.tell_measured(on_activity, split, done, len(dataset)),
        )
        return self.metrics(dataset, found)

    def metrics(self, dataset: DetectionDataset, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Of what was found in a split, in COCO's result format, as plain values."""
        return coco_ap(dataset.coco_ground_truth(), found).as_dict()

    def can_measure(self, split: str) -> bool:
        return self.splits[split].objects() > 0
