"""Training one candidate on cached records and measuring it, whatever the task (thesis 6.4.1, 7.3.3, 7.4.1)."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from nasperc.training.averaging import PolyakAverage, reestimate_batch_norm
from proxy_tasks.base import Progress
from proxy_tasks.cached_recipe import CachedTaskRecipe
from proxy_tasks.cached_records import BatchT, CachedRecords
from proxy_tasks.divergence import DivergedLossError, DivergenceGuard
from proxy_tasks.stopwatch import Stopwatch

# A progress bar needs no more than this.
SECONDS_BETWEEN_REPORTS = 0.3
# Reading a number waits for the device: on CUDA they are looked at this rarely. So are the weights everywhere.
ITERATIONS_BETWEEN_CHECKS = 10
# An untrained network has losses of about 1. Beyond this one has blown up, even if its numbers are finite still,
# and no reward of it may reach the controller.
LARGEST_LOSS = 1e4


class Measured(Protocol):
    """A reward, and beside it what the journal is to show."""

    @property
    def reward(self) -> float: ...

    def metrics(self) -> dict[str, float]: ...


MeasurementT = TypeVar("MeasurementT", bound=Measured)


class Outcome(NamedTuple, Generic[MeasurementT]):
    """``final`` is None when the candidate was stopped half-way."""

    halfway: MeasurementT | None
    final: MeasurementT | None


class CandidateTraining(ABC, Generic[BatchT, MeasurementT]):
    """One candidate's training: Adam on meta-train, Polyak-averaged parameters measured on meta-val.

    Args:
        network: built and initialised, on the device.
        records: to train and to measure on.
        recipe: of the proxy task, the stage's overrides applied.
        iterations: of the whole training.
        losses: names of what :meth:`_losses` gives.
        seed: of the order of the batches.
        stopwatch: times the phases.
    """

    def __init__(
        self,
        network: nn.Module,
        records: CachedRecords[BatchT],
        recipe: CachedTaskRecipe,
        iterations: int,
        losses: Sequence[str],
        seed: int,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.device = records.device
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.iterations = iterations
        self._records, self._schedule, self._seed = records, recipe, seed
        self._autocasts = self.device.type == "cuda" and recipe.mixed_precision
        # What autocast would round the features to anyway: two passes over them less in every iteration.
        self._feature_dtype = torch.bfloat16 if self._autocasts else torch.float32
        self.stopwatch = stopwatch or Stopwatch(self.device)
        self._parameters = list(network.parameters())
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self._average = PolyakAverage(network, recipe.polyak)
        limits = dict.fromkeys(losses, LARGEST_LOSS) | {"gradient norm": torch.finfo(torch.float32).max}
        self._guard = DivergenceGuard(limits, self.device)
        self._steps = 0

    @abstractmethod
    def _forward(self, network: nn.Module, batch: BatchT) -> Any:
        """The network's output on a batch; losses and measurement read float32 of it."""

    @abstractmethod
    def _losses(self, output: Any, batch: BatchT) -> Sequence[Tensor]:
        """The terms of the loss, whose sum is minimised."""

    @abstractmethod
    def _measure(self, network: nn.Module) -> MeasurementT:
        """The reward of a network in evaluation mode on the whole of meta-val.

        Raises:
            DivergedLossError: it cannot be trusted.
        """

    @abstractmethod
    def _statistics(self, averaged: nn.Module) -> tuple[nn.Module, Iterator[Any]]:
        """The part of the averaged network whose BatchNorm statistics are estimated again, and its inputs."""

    def run(self, threshold: float | None, on_progress: Progress) -> Outcome[MeasurementT]:
        """Train, measure half-way if the recipe says so, stop there below ``threshold``, measure at the end.

        Raises:
            DivergedLossError: a loss, the gradient, a weight or a reward is not finite, or a loss is out of all
                proportion; the step is named.
        """
        iterations = self.iterations
        middle = iterations // 2 if self._schedule.early_stop and iterations > 1 else 0
        halfway: MeasurementT | None = None
        reported = -math.inf
        self.network.train()
        order = self._records.training_order(self._schedule.batch_size, self._seed)
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
    def measure(self) -> MeasurementT:
        """The reward of the averaged parameters, on a copy; nothing of the training is touched.

        Raises:
            DivergedLossError: it, or a weight, is not finite.
        """
        self._check()
        # Gradients would be copied along.
        self._optimizer.zero_grad(set_to_none=True)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            averaged = copy.deepcopy(self.network)
            self._average.copy_to(averaged)
            self.stopwatch.lap("measuring: copying")
            part, inputs = self._statistics(averaged)
            with self._autocast():
                reestimate_batch_norm(part, self._timed_as_reading(inputs))
            self.stopwatch.lap("measuring: statistics")
            averaged.eval()
            return self._measure(averaged)

    def _step(self, indices: Tensor, *, check: bool) -> None:
        lap = self.stopwatch.lap
        batch = self._records.load(indices, self._feature_dtype)
        lap("training: reading")
        output = self._forward(self.network, batch)
        lap("training: forward")
        losses = self._losses(output, batch)
        total = sum(losses[1:], start=losses[0])
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
        if self._schedule.gradient_clip is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._schedule.gradient_clip, norm, foreach=True)
        return norm

    @torch.no_grad()
    def _check(self) -> None:
        self._guard.check()
        norm = nn.utils.get_total_norm(self._parameters, foreach=True).item()
        if not math.isfinite(norm):
            raise DivergedLossError(f"diverged after step {self._steps}: norm of the weights {norm}")

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16) if self._autocasts else nullcontext()

    def _statistics_batches(self) -> Iterator[BatchT]:
        recipe = self._schedule
        sizes = (recipe.bn_batches, recipe.batch_size)
        return self._records.statistics_batches(*sizes, recipe.seed, self._feature_dtype)

    def _timed_as_reading(self, inputs: Iterator[Any]) -> Iterator[Any]:
        for each in inputs:
            self.stopwatch.lap("measuring: reading")
            yield each
            self.stopwatch.lap("measuring: statistics")
