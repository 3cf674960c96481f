"""Training one decoder on cached features and measuring it (thesis 7.3.3, 7.4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from nasperc.models.fcos.losses import FCOSLosses, fcos_losses, fcos_losses_per_image
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import HeadOutput
from nasperc.training.averaging import trainable_batch_norms
from proxy_tasks.candidate_training import LARGEST_LOSS, CandidateTraining
from proxy_tasks.detection_cache import STRIDES, DetectionCache, FeatureBatch
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.divergence import DivergedLossError
from proxy_tasks.stopwatch import Stopwatch

if TYPE_CHECKING:
    # It needs pycocotools, which training by the loss does not.
    from proxy_tasks.detection_ap import ValidationAP


class NeckAndHead(nn.Module):
    """Neck and head: ``forward(features) -> HeadOutput``, as in the detector."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.neck = modules["neck"]
        self.head = modules["head"]

    def forward(self, features: list[Tensor]) -> HeadOutput:
        output: HeadOutput = self.head(self.neck(features))
        return output


class DetectionMeasurement(NamedTuple):
    """The reward; the terms of equation 7.2, means over meta-val of each image's losses; AP if it was measured.

    ``reward`` is minus the sum of the terms, or the AP, by the recipe's key ``reward``.
    """

    reward: float
    classification: float
    box: float
    centerness: float
    ap: float | None = None

    def metrics(self) -> dict[str, float]:
        """For the journal."""
        losses = {f"loss_{name}": getattr(self, name) for name in FCOSLosses._fields}
        return losses if self.ap is None else losses | {"ap": self.ap}


class DecoderTraining(CandidateTraining[FeatureBatch, DetectionMeasurement]):
    """One candidate's training by the losses of FCOS, measured by equation 7.2 or AP.

    Args:
        decoder: built and initialised, on the device.
        cache: records to train and to measure on.
        recipe: of the proxy task, the stage's overrides applied.
        preset: of the head.
        seed: of the order of the batches.
        stopwatch: times the phases.
        validation_ap: measures AP too, where the recipe asks for it.
    """

    def __init__(
        self,
        decoder: NeckAndHead,
        cache: DetectionCache,
        recipe: DetectionProxyRecipe,
        preset: FCOSPreset,
        seed: int,
        stopwatch: Stopwatch | None = None,
        validation_ap: ValidationAP | None = None,
    ) -> None:
        super().__init__(decoder, cache, recipe, recipe.iterations, FCOSLosses._fields, seed, stopwatch)
        self.decoder = decoder
        self._recipe, self._preset, self._validation_ap = recipe, preset, validation_ap

    def _forward(self, network: nn.Module, batch: FeatureBatch) -> HeadOutput:
        with self._autocast():
            output: HeadOutput = network(batch.features)
        # float32 for what is read of it: the towers stay as they are.
        return output._replace(
            class_logits=[level.float() for level in output.class_logits],
            boxes=[level.float() for level in output.boxes],
            centerness=[level.float() for level in output.centerness],
        )

    def _losses(self, output: HeadOutput, batch: FeatureBatch) -> FCOSLosses:
        return fcos_losses(output, batch.targets, self._preset, STRIDES)

    def _statistics(self, averaged: nn.Module) -> tuple[nn.Module, Iterator[list[Tensor]]]:
        assert isinstance(averaged, NeckAndHead)
        # The head has GroupNorm in every built-in space: then its forward pass is not needed here.
        part = averaged if trainable_batch_norms(averaged.head) else averaged.neck
        return part, (batch.features for batch in self._statistics_batches())

    def _measure(self, network: nn.Module) -> DetectionMeasurement:
        losses: list[tuple[Tensor, ...]] = []
        detections: list[dict[str, Any]] = []
        views = 0
        for batch in self._records.val_batches(self._recipe.val_batch_size, self._feature_dtype):
            self.stopwatch.lap("measuring: reading")
            output = self._forward(network, batch)
            losses.append(fcos_losses_per_image(output, batch.targets, self._preset, STRIDES))
            if self._validation_ap is not None:
                detections += self._validation_ap.detections(output, first=views)
            views += len(batch.targets.labels)
            self.stopwatch.lap("measuring: meta-val")
        classification, box, centerness = (
            torch.cat(term).double().mean().item() for term in zip(*losses, strict=True)
        )
        loss = classification + box + centerness
        ap = None if self._validation_ap is None else self._validation_ap.measure(detections)
        reward = ap if ap is not None and self._recipe.reward == "ap" else -loss
        # With AP as the reward a loss may still say that the network is broken.
        if not (abs(loss) <= LARGEST_LOSS and math.isfinite(reward)):
            raise DivergedLossError(
                f"diverged after step {self._steps}: on meta-val loss {loss:.4g}, reward {reward:.4g}"
            )
        return DetectionMeasurement(reward, classification, box, centerness, ap)
