"""The training loop: one for detectors, static networks and dynamic cells, in full training and before a search."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from nasperc.errors import InputError
from nasperc.training.interrupt import DeferredInterrupt
from nasperc.training.lockstep import lockstep
from nasperc.training.training_run import TrainingRun

OnStep = Callable[[int, dict[str, float]], None]
# Brings a checkpoint from where it is to the last iteration, in other processes.
Elsewhere = Callable[[OnStep | None], None]


class DivergedError(InputError):
    """The loss is no longer finite: the recipe asks for more than the network stands."""


@dataclass(frozen=True)
class TrainingResult:
    """``seconds`` of training, before an interruption too; ``resumed_at``: where this call began. ``pixels_known``:
    see :class:`nasperc.training.training_run.TrainingRun`."""

    seconds: float
    iterations: int
    resumed_at: int
    pixels_known: bool = True


def train(
    run: TrainingRun,
    *,
    on_step: OnStep | None = None,
    resume: bool = True,
    elsewhere: Elsewhere | None = None,
) -> TrainingResult:
    """Train the network of ``run``; afterwards it holds what is to be evaluated, in evaluation mode.

    Continuing after an interruption gives bit for bit what an uninterrupted run gives on the same machine:
    batches and random numbers are functions of seed and iteration, all other state is in the checkpoint. A
    finished one is loaded instead of training.

    Args:
        run: at its beginning.
        on_step: called with the iterations done and the terms of the loss.
        resume: continue from the checkpoint if it exists.
        elsewhere: does the iterations by calls of :func:`train_part` in several processes, with the same plan; only
            what follows the last iteration is done here. It needs a checkpoint.

    Raises:
        InputError: the checkpoint is unreadable, was made by another recipe, seed or data set, or cannot be
            written; an image cannot be read (a checkpoint is written).
        DivergedError: a loss is not finite. The last checkpoint is left as it is.
        KeyboardInterrupt: Ctrl-C, after the iteration was finished and a checkpoint written.
    """
    if resume:
        run.load()
    first = run.step
    if elsewhere is not None and run.step < run.settings.iterations:
        elsewhere(on_step)
        run.load()
    if not run.finished:
        _advance(run, on_step, DeferredInterrupt())
        run.finish()
    run.model.eval()
    return TrainingResult(run.seconds, run.step, first, run.pixels_known)


def train_part(run: TrainingRun, on_step: OnStep | None, interrupt: DeferredInterrupt) -> None:
    """One process's part in a training: its share of every batch, up to the last iteration.

    The plan is alike in all processes, and the checkpoint on a file system that they share; losses and gradients
    are those of one process with the whole batch. :func:`train`, called afterwards in one process, finishes. Only
    the first process writes the checkpoint.

    Args:
        run: with its ``peers``.
        on_step: as for :func:`train`.
        interrupt: when requested in one of the processes, all end after the same iteration.

    Raises:
        InputError, DivergedError: as in :func:`train`. What one process cannot read interrupts the others.
        KeyboardInterrupt: ``interrupt`` was requested, here or in another process.
    """
    run.load()
    _advance(run, on_step, interrupt)
    run.save()


def _advance(run: TrainingRun, on_step: OnStep | None, interrupt: DeferredInterrupt) -> None:
    """The iterations that are left; whatever ends them early leaves a checkpoint to continue from."""
    with torch.random.fork_rng(), interrupt:
        try:
            _iterate(run, on_step, interrupt)
        except DivergedError:
            raise
        except InputError:
            # An image that cannot be read stops the run between two iterations: nothing is lost by it.
            run.save()
            raise
        if interrupt.requested:
            run.save()
            raise KeyboardInterrupt


def _iterate(run: TrainingRun, on_step: OnStep | None, interrupt: DeferredInterrupt) -> None:
    settings = run.settings
    run.train_mode()
    started = time.perf_counter() - run.seconds
    batches = run.plan.batches.ahead(run.step, settings.iterations)
    for batch in lockstep(batches, run.peers, interrupt, run.device):
        # Random layers draw the same numbers in this iteration whether it is reached in one go or two.
        torch.manual_seed(run.seed * 1_000_003 + run.step)
        if run.plan.on_progress is not None:
            run.plan.on_progress(run.step / settings.iterations)
        with run.autocast():
            terms = run.plan.losses(run.model, batch)
        stacked = torch.stack(list(terms.values()))
        values = dict(zip(terms, run.peers.reduce(stacked.detach()).tolist(), strict=True))
        if not all(map(math.isfinite, values.values())):
            raise _diverged(run, values)
        run.optimizers.zero_grad()
        stacked.sum().backward()
        run.peers.add_gradients(run.model)
        if settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(run.model.parameters(), settings.gradient_clip)
        run.optimizers.step(run.step)
        if run.average is not None:
            run.average.update()
        run.step += 1
        run.seconds = time.perf_counter() - started
        if on_step is not None:
            on_step(run.step, values)
        stopping = interrupt.requested or run.step == settings.iterations
        if run.step % settings.checkpoint_every == 0 and not stopping:
            run.save()


def _diverged(run: TrainingRun, values: Mapping[str, float]) -> DivergedError:
    written = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    return DivergedError(
        "a training loss must be finite",
        value=f"{written} in iteration {run.step + 1} of {run.settings.iterations}",
        where="recipe of the training",
        repair=run.settings.repair,
    )
