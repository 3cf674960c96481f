"""Training one decoder on cached features and measuring it (thesis 7.3.3, 7.4.1)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from nasperc.models.fcos_losses import FCOSLosses, fcos_losses, fcos_losses_per_image
from nasperc.models.features import HeadOutput
from nasperc.models.heads.preset import FCOSPreset
from nasperc.training.averaging import PolyakAverage, reestimate_batch_norm, trainable_batch_norms
from proxy_tasks.base import Progress
from proxy_tasks.detection_cache import STRIDES, DetectionCache
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.divergence import DivergedLossError, DivergenceGuard
from proxy_tasks.stopwatch import Stopwatch

if TYPE_CHECKING:
    # It needs pycocotools, which training by the loss does not.
    from proxy_tasks.detection_ap import ValidationAP

# A progress bar needs no more than this.
SECONDS_BETWEEN_REPORTS = 0.3
# Reading a number waits for the device: on CUDA they are looked at this rarely. So are the weights everywhere.
ITERATIONS_BETWEEN_CHECKS = 10
# An untrained decoder has losses of about 1. Beyond this one has blown up, even if its numbers are finite still,
# and no reward of it may reach the controller.
LARGEST_LOSS = 1e4
_LIMITS = {**dict.fromkeys(FCOSLosses._fields, LARGEST_LOSS), "gradient norm": torch.finfo(torch.float32).max}


class Decoder(nn.Module):
    """Neck and head: ``forward(features) -> HeadOutput``, as in the detector."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.neck = modules["neck"]
        self.head = modules["head"]

    def forward(self, features: list[Tensor]) -> HeadOutput:
        output: HeadOutput = self.head(self.neck(features))
        return output


class Measurement(NamedTuple):
    """The reward; the terms of equation 7.2, means over meta-val of each image's losses; AP if it was measured.

    ``reward`` is minus the sum of the terms, or the AP, by the recipe's key ``reward``.
    """

    reward: float
    classification: float
    box: float
    centerness: float
    ap: float | None = None


class Outcome(NamedTuple):
    """``final`` is None when the candidate was stopped half-way."""

    halfway: Measurement | None
    final: Measurement | None


class DecoderTraining:
    """One candidate's training: Adam on meta-train, Polyak-averaged parameters measured on meta-val.

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
        decoder: Decoder,
        cache: DetectionCache,
        recipe: DetectionProxyRecipe,
        preset: FCOSPreset,
        seed: int,
        stopwatch: Stopwatch | None = None,
        validation_ap: ValidationAP | None = None,
    ) -> None:
        self.device = cache.device
        self.decoder = decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._cache, self._recipe, self._preset, self._seed = cache, recipe, preset, seed
        self._autocasts = self.device.type == "cuda" and recipe.mixed_precision
        # What autocast would round the features to anyway: two passes over them less in every iteration.
        self._feature_dtype = torch.bfloat16 if self._autocasts else torch.float32
        self.stopwatch = stopwatch or Stopwatch(self.device)
        self._validation_ap = validation_ap
        parameters = list(decoder.parameters())
        self._parameters = parameters
        self._optimizer = torch.optim.Adam(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self._average = PolyakAverage(decoder, recipe.polyak)
        self._guard = DivergenceGuard(_LIMITS, self.device)
        self._steps = 0

    def run(self, threshold: float | None, on_progress: Progress) -> Outcome:
        """Train, measure half-way if the recipe says so, stop there below ``threshold``, measure at the end.

        Raises:
            DivergedLossError: a loss, the gradient, a weight or a reward is not finite, or a loss is out of all
                proportion; the step is named.
        """
        iterations = self._recipe.iterations
        middle = iterations // 2 if self._recipe.early_stop and iterations > 1 else 0
        halfway: Measurement | None = None
        reported = -math.inf
        self.decoder.train()
        order = self._cache.training_order(self._recipe.batch_size, self._seed)
        for iteration in range(1, iterations + 1):
            self._step(next(order), check=iteration % ITERATIONS_BETWEEN_CHECKS == 0)
            if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                on_progress("training", iteration / iterations)
            if iteration == middle:
                halfway = self.measure()
                if threshold is not None and halfway.reward < threshold:
                    return Outcome(halfway, None)
        return Outcome(halfway, self.measure())

    @torch.no_grad()
    def measure(self) -> Measurement:
        """The reward of the averaged parameters, on a copy; nothing of the training is touched.

        Raises:
            DivergedLossError: it, or a weight, is not finite.
        """
        self._check()
        # Gradients would be copied along.
        self._optimizer.zero_grad(set_to_none=True)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            averaged = copy.deepcopy(self.decoder)
            self._average.copy_to(averaged)
            self.stopwatch.lap("measuring: copying")
            self._estimate_statistics(averaged)
            averaged.eval()
            losses: list[tuple[Tensor, ...]] = []
            detections: list[dict[str, Any]] = []
            views = 0
            for batch in self._cache.val_batches(self._recipe.val_batch_size, self._feature_dtype):
                self.stopwatch.lap("measuring: reading")
                output = self._forward(averaged, batch.features)
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
        return Measurement(reward, classification, box, centerness, ap)

    def _step(self, indices: Tensor, *, check: bool) -> None:
        lap = self.stopwatch.lap
        batch = self._cache.load(indices, self._feature_dtype)
        lap("training: reading")
        output = self._forward(self.decoder, batch.features)
        lap("training: forward")
        losses = fcos_losses(output, batch.targets, self._preset, STRIDES)
        total = losses.total()
        lap("training: loss")
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        lap("training: backward")
        self._steps += 1
        self._guard.note(self._steps, *losses, self._clip_gradients())
        if self.device.type == "cpu":
            self._guard.check()
        lap("training: checks")
        self._optimizer.step()
        if check:
            self._check()
        lap("training: optimiser")
        self._average.update()
        lap("training: averaging")

    def _clip_gradients(self) -> Tensor:
        """The norm of the gradient before it was clipped, where the recipe says so."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        if self._recipe.gradient_clip is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._recipe.gradient_clip, norm, foreach=True)
        return norm

    @torch.no_grad()
    def _check(self) -> None:
        self._guard.check()
        norm = nn.utils.get_total_norm(self._parameters, foreach=True).item()
        if not math.isfinite(norm):
            raise DivergedLossError(f"diverged after step {self._steps}: norm of the weights {norm}")

    def _forward(self, decoder: Decoder, features: list[Tensor]) -> HeadOutput:
        with self._autocast():
            output: HeadOutput = decoder(features)
        # float32 for what is read of it: the towers stay as they are.
        return output._replace(
            class_logits=[level.float() for level in output.class_logits],
            boxes=[level.float() for level in output.boxes],
            centerness=[level.float() for level in output.centerness],
        )

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16) if self._autocasts else nullcontext()

    def _estimate_statistics(self, averaged: Decoder) -> None:
        """BatchNorm statistics of the averaged parameters, over fixed meta-train batches."""
        # The head has GroupNorm in every built-in space: then its forward pass is not needed here.
        part = averaged if trainable_batch_norms(averaged.head) else averaged.neck
        with self._autocast():
            reestimate_batch_norm(part, self._statistics_features())
        self.stopwatch.lap("measuring: statistics")

    def _statistics_features(self) -> Iterator[list[Tensor]]:
        recipe = self._recipe
        sizes = (recipe.bn_batches, recipe.batch_size)
        for batch in self._cache.statistics_batches(*sizes, recipe.seed, self._feature_dtype):
            self.stopwatch.lap("measuring: reading")
            yield batch.features
            self.stopwatch.lap("measuring: statistics")
