"""Full training of panoptic networks, on the plan and the baselines of detectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nasperc.assembly.datasets import open_panoptic_split
from nasperc.assembly.detector import Baseline, Decoder
from nasperc.data.dataset import DetectionDataset
from nasperc.data.panoptic import PanopticDataset
from nasperc.data.panoptic_formats import has_panoptic_split
from nasperc.models.detector import Detector
from nasperc.models.panoptic.segmenter import PanopticSegmenter, WholePanoptic
from nasperc.recipe.root import Recipe
from nasperc.tasks.detection.training import DetectionTraining
from nasperc.tasks.panoptic.models import PanopticRecipe, build_panoptic
from nasperc.tasks.panoptic.tables import PanopticTables
from nasperc.tasks.panoptic.trained import describe_panoptic
from nasperc.tasks.row import CHECKPOINT, Activity, Job
from nasperc.tasks.training import Found, Phase, Splits
from nasperc.training.detection import detection_plan
from nasperc.training.panoptic import panoptic_losses, segment_dataset
from nasperc.training.peers import Peers


class PanopticTraining(DetectionTraining):
    """As of detectors; the recipe's section ``task`` says which network."""

    presentation = PanopticTables()

    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Found | None) -> None:
        super().__init__(recipe, prepared, searched, found)
        options = {} if recipe.task is None else recipe.task.options
        self._options = PanopticRecipe.model_validate(options)

    def open_splits(self, recipe: Recipe, prepared: Path) -> Splits[DetectionDataset]:
        return Splits(
            recipe.data, lambda role: open_panoptic_split(recipe.data, role, prepared), has_panoptic_split
        )

    def _split(self, name: str) -> PanopticDataset:
        split = self.splits[name]
        assert isinstance(split, PanopticDataset)
        return split

    def network(self, part: Decoder) -> PanopticSegmenter:
        stuff = len(self._split("train").panoptic.stuff)
        return build_panoptic(self.recipe.model, self._options, part, len(self._classes), stuff)

    def whole(self, model: Detector) -> WholePanoptic:
        """With the masks of 100 instances, and the logits of the pixels."""
        assert isinstance(model, PanopticSegmenter)
        return WholePanoptic(model)

    def row_name(self, baseline: Baseline) -> str:
        """Its neck and head are those of a detector; the row is not."""
        return f"{self._options.title()} ({super().row_name(baseline)})"

    def describe(self, job: Job) -> dict[str, Any]:
        assert job.part is not None
        stuff = self._split("train").panoptic.stuff
        return describe_panoptic(self.recipe.model, job.part, self.recipe.space, self._options, stuff)

    def phases(self, model: Detector, job: Job, peers: Peers | None = None) -> list[Phase]:
        peers = peers or Peers()
        settings = self.recipe.fulltrain
        plan = detection_plan(
            model,
            self.splits["train"],
            settings,
            seed=self.recipe.seed,
            normalisation=self._normalisation,
            description=self.describe(job),
            losses=partial(panoptic_losses, size_scale=settings.sizes_of_interest_scale, reduce=peers.reduce),
            peers=peers,
        )
        return [Phase(CHECKPOINT, plan)]

    def measure(self, model: Detector, split: str, on_activity: Activity) -> dict[str, Any]:
        assert isinstance(model, PanopticSegmenter)
        settings, dataset = self.recipe.fulltrain, self._split(split)
        evaluation = segment_dataset(
            model,
            dataset,
            self._normalisation,
            settings.test_short_side,
            settings.max_long_side,
            on_image=lambda done: self.tell_measured(on_activity, split, done, len(dataset)),
        )
        return evaluation.metrics(dataset.panoptic.names).as_dict()

    def can_measure(self, split: str) -> bool:
        """PQ is defined where a segment is annotated that is no crowd."""
        return any(not record.segments.crowd.all() for record in self._split(split).records)
