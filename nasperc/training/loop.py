"""The training loop on images: full training, and fine-tuning the backbone before a search."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasperc.data.batch import Batch
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.training.detection_losses import detection_losses
from nasperc.training.interrupt import DeferredInterrupt
from nasperc.training.lockstep import lockstep
from nasperc.training.optimizer import set_learning_rate
from nasperc.training.peers import Peers
from nasperc.training.recipe import TrainingRecipe
from nasperc.training.training_run import TrainingRun

LossFunction = Callable[[nn.Module, Batch], dict[str, Tensor]]
OnStep = Callable[[int, dict[str, float]], None]
# Brings a checkpoint from where it is to the last iteration, in other processes.
Elsewhere = Callable[[OnStep | None], None]


class DivergedError(InputError):
    """The loss is no longer finite: the recipe asks for more than the network stands."""


@dataclass(frozen=True)
class TrainingResult:
    """``seconds`` of training, before an interruption too; ``resumed_at``: where this call began."""

    seconds: float
    iterations: int
    resumed_at: int


def train(
    model: nn.Module,
    dataset: DetectionDataset,
    recipe: TrainingRecipe,
    *,
    seed: int,
    normalisation: Normalisation,
    checkpoint: Path | None = None,
    description: Mapping[str, Any] | None = None,
    losses: LossFunction | None = None,
    on_step: OnStep | None = None,
    resume: bool = True,
    elsewhere: Elsewhere | None = None,
) -> TrainingResult:
    """Train ``model`` in place; afterwards it holds what is to be evaluated, in evaluation mode.

    Continuing after an interruption gives bit for bit what an uninterrupted run gives on the same machine:
    batches and random numbers are functions of seed and iteration, all other state is in the checkpoint.

    Args:
        model: with a submodule ``backbone`` where the recipe's backbone keys are to have an effect.
        dataset: the split to train on.
        recipe: schedule, optimiser and image sizes.
        seed: of batches, augmentation and random layers (not of the initialisation, which the caller did).
        normalisation: the backbone's.
        checkpoint: file to write every ``recipe.checkpoint_every`` iterations and at the end; None: none. A
            finished one is loaded instead of training.
        description: plain values stored with it; a checkpoint with other values is not resumed.
        losses: ``(model, batch) -> terms``; their sum is minimised. None: those of a detector.
        on_step: called with the iterations done and the terms.
        resume: continue from ``checkpoint`` if it exists.
        elsewhere: does the iterations by calls of :func:`train_part` in several processes, with the same
            arguments; only what follows the last iteration is done here. It needs ``checkpoint``.

    Raises:
        InputError: ``checkpoint`` is unreadable, was made by another recipe, seed or data set, or cannot be
            written; an image cannot be read (a checkpoint is written).
        DivergedError: a loss is not finite. The last checkpoint is left as it is.
        KeyboardInterrupt: Ctrl-C, after the iteration was finished and a checkpoint written.
    """
    run = TrainingRun(model, dataset, recipe, seed, normalisation, checkpoint, description or {}, Peers())
    if resume:
        run.load()
    first = run.step
    if elsewhere is not None and run.step < recipe.iterations:
        elsewhere(on_step)
        run.load()
    if not run.finished:
        _advance(run, losses, on_step, DeferredInterrupt())
        run.finish()
    model.eval()
    return TrainingResult(run.seconds, run.step, first)


def train_part(
    model: nn.Module,
    dataset: DetectionDataset,
    recipe: TrainingRecipe,
    *,
    seed: int,
    normalisation: Normalisation,
    checkpoint: Path,
    description: Mapping[str, Any] | None = None,
    on_step: OnStep | None = None,
    peers: Peers,
    interrupt: DeferredInterrupt,
) -> None:
    """One process's part in the training of a detector: its share of every batch, up to the last iteration.

    The arguments are those of :func:`train`, alike in all processes, and on a file system that they share;
    losses and gradients are those of one process with the whole batch. :func:`train`, called afterwards in one
    process, finishes. Only the first process writes the checkpoint.

    Args:
        peers: the processes.
        interrupt: when requested in one of them, all end after the same iteration.

    Raises:
        InputError, DivergedError: as in :func:`train`. What one process cannot read interrupts the others.
        KeyboardInterrupt: ``interrupt`` was requested, here or in another process.
    """
    run = TrainingRun(model, dataset, recipe, seed, normalisation, checkpoint, description or {}, peers)
    run.load()
    _advance(run, None, on_step, interrupt)
    run.save()


def _advance(
    run: TrainingRun, losses: LossFunction | None, on_step: OnStep | None, interrupt: DeferredInterrupt
) -> None:
    """The iterations that are left; whatever ends them early leaves a checkpoint to continue from."""
    if losses is None:
        scale, total = run.recipe.sizes_of_interest_scale, run.peers.total
        losses = partial(detection_losses, size_scale=scale, total=total)
    with torch.random.fork_rng(), interrupt:
        try:
            _iterate(run, losses, on_step, interrupt)
        except DivergedError:
            raise
        except InputError:
            # An image that cannot be read stops the run between two iterations: nothing is lost by it.
            run.save()
            raise
        if interrupt.requested:
            run.save()
            raise KeyboardInterrupt


def _iterate(
    run: TrainingRun, losses: LossFunction, on_step: OnStep | None, interrupt: DeferredInterrupt
) -> None:
    recipe = run.recipe
    run.train_mode()
    started = time.perf_counter() - run.seconds
    for batch in lockstep(run.batches.ahead(run.step, recipe.iterations), run.peers, interrupt, run.device):
        # Random layers draw the same numbers in this iteration whether it is reached in one go or two.
        torch.manual_seed(run.seed * 1_000_003 + run.step)
        with run.autocast():
            terms = losses(run.model, batch)
        stacked = torch.stack(list(terms.values()))
        values = dict(zip(terms, run.peers.total(stacked.detach()).tolist(), strict=True))
        if not all(map(math.isfinite, values.values())):
            raise _diverged(run, values)
        run.optimizer.zero_grad(set_to_none=True)
        stacked.sum().backward()
        run.peers.add_gradients(run.model)
        if recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(run.model.parameters(), recipe.gradient_clip)
        set_learning_rate(run.optimizer, recipe, run.step)
        run.optimizer.step()
        if run.average is not None:
            run.average.update()
        run.step += 1
        run.seconds = time.perf_counter() - started
        if on_step is not None:
            on_step(run.step, values)
        stopping = interrupt.requested or run.step == recipe.iterations
        if run.step % recipe.checkpoint_every == 0 and not stopping:
            run.save()


def _diverged(run: TrainingRun, values: Mapping[str, float]) -> DivergedError:
    written = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    clip = "" if run.recipe.gradient_clip is not None else ", set gradient_clip (10)"
    return DivergedError(
        "a training loss must be finite",
        value=f"{written} in iteration {run.step + 1} of {run.recipe.iterations}",
        where="recipe of the training",
        repair=f"Lower learning_rate (now {run.recipe.learning_rate:g}){clip} or warm up longer.",
    )
