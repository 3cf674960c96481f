"""Training one dynamic cell on cached sequences and measuring it (thesis 6.3.3, 6.4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.evaluation.miou import SegmentationEvaluation
from nasperc.models.video_segmenter import State, unroll
from nasperc.training.segmentation_losses import segmentation_loss
from proxy_tasks.candidate_training import CandidateTraining
from proxy_tasks.divergence import DivergedLossError
from proxy_tasks.stopwatch import Stopwatch
from proxy_tasks.video_cache import SequenceBatch, SequenceCache
from proxy_tasks.video_recipe import VideoProxyRecipe


class UnrolledCell(nn.Module):
    """``forward(sequences) -> logits`` of every frame after the first."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, batch: SequenceBatch) -> list[Tensor]:
        return unroll(self.cell, batch.state, batch.frames)


class CellStep(nn.Module):
    """``forward([layer 4 and dec of the frame before, layers 2, 3 and 4]) -> logits`` of a frame, to be counted."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, inputs: list[Tensor]) -> Tensor:
        layer4, dec, *levels = inputs
        logits: Tensor = self.cell(State(layer4, dec), levels).logits
        return logits


class SegmentationMeasurement(NamedTuple):
    """Of all frames of meta-val after the first; ``reward``: the geometric mean of mIoU, fwIoU and mAcc."""

    reward: float
    miou: float
    fwiou: float
    macc: float
    gacc: float

    def metrics(self) -> dict[str, float]:
        """For the journal."""
        return {name: value for name, value in self._asdict().items() if name != "reward"}

    @classmethod
    def of(cls, evaluation: SegmentationEvaluation) -> SegmentationMeasurement:
        """What was counted; NaN where no pixel was."""
        metrics = evaluation.metrics()
        return cls(metrics.reward, metrics.miou, metrics.fwiou, metrics.macc, metrics.gacc)


class CellTraining(CandidateTraining[SequenceBatch, SegmentationMeasurement]):
    """One cell's training by the cross entropy of the frames after the first, whose sum is minimised.

    Args:
        cell: built and initialised, on the device.
        cache: sequences to train and to measure on.
        classes: number of classes.
        recipe: of the proxy task, the stage's overrides applied.
        iterations: of the whole training.
        seed: of the order of the batches.
        stopwatch: times the phases.
    """

    def __init__(
        self,
        cell: nn.Module,
        cache: SequenceCache,
        classes: int,
        recipe: VideoProxyRecipe,
        iterations: int,
        seed: int,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        frames = [f"cross entropy of frame {number}" for number in range(2, recipe.sequence_length + 1)]
        super().__init__(UnrolledCell(cell), cache, recipe, iterations, frames, seed, stopwatch)
        self._recipe, self._classes = recipe, classes

    def _forward(self, network: nn.Module, batch: SequenceBatch) -> list[Tensor]:
        with self._autocast():
            logits: list[Tensor] = network(batch)
        return [each.float() for each in logits]

    def _losses(self, output: list[Tensor], batch: SequenceBatch) -> list[Tensor]:
        size = self._recipe.loss_size
        return [segmentation_loss(*each, size) for each in zip(output, batch.labels, strict=True)]

    def _statistics(self, averaged: nn.Module) -> tuple[nn.Module, Iterator[SequenceBatch]]:
        return averaged, self._statistics_batches()

    def _measure(self, network: nn.Module) -> SegmentationMeasurement:
        """At the size of the annotation, whatever that of the frames was."""
        # The trimap takes most of the time, and the reward does not look at it.
        evaluation = SegmentationEvaluation(self._classes, trimap_width=None)
        for batch in self._records.val_batches(self._recipe.val_batch_size, self._feature_dtype):
            self.stopwatch.lap("measuring: reading")
            output = self._forward(network, batch)
            self.stopwatch.lap("measuring: meta-val")
            count_pixels(evaluation, output, batch.labels)
            self.stopwatch.lap("measuring: counting pixels")
        measured = SegmentationMeasurement.of(evaluation)
        if not all(math.isfinite(value) for value in measured):
            raise DivergedLossError(f"diverged after step {self._steps}: on meta-val {measured}")
        return measured


def count_pixels(evaluation: SegmentationEvaluation, logits: list[Tensor], labels: list[Tensor]) -> None:
    """Count the predictions of the frames after the first, upsampled to the size of their labels."""
    for position, (each, truth) in enumerate(zip(logits, labels, strict=True), start=1):
        upsampled = F.interpolate(each, truth.shape[-2:], mode="bilinear", align_corners=False)
        evaluation.add(upsampled.max(1).indices, truth, position)
