"""The training loop on images: full training, and fine-tuning the backbone before a search."""

from __future__ import annotations

import copy
import json
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
from nasperc.training.averaging import PolyakAverage, reestimate_batch_norm
from nasperc.training.batches import TrainingBatches
from nasperc.training.checkpoint import load_checkpoint, save_checkpoint
from nasperc.training.detection_losses import detection_losses
from nasperc.training.interrupt import DeferredInterrupt
from nasperc.training.optimizer import build_optimizer, set_learning_rate
from nasperc.training.recipe import TrainingRecipe

LossFunction = Callable[[nn.Module, Batch], dict[str, Tensor]]
OnStep = Callable[[int, dict[str, float]], None]


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

    Raises:
        InputError: ``checkpoint`` is unreadable, was made by another recipe, seed or data set, or cannot be
            written; an image cannot be read (a checkpoint is written).
        DivergedError: a loss is not finite. The last checkpoint is left as it is.
        KeyboardInterrupt: Ctrl-C, after the iteration was finished and a checkpoint written.
    """
    losses = losses or partial(detection_losses, size_scale=recipe.sizes_of_interest_scale)
    run = _Run(model, dataset, recipe, seed, normalisation, checkpoint, description or {})
    if resume and checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    first = run.step
    if not run.finished:
        with torch.random.fork_rng(), DeferredInterrupt() as interrupt:
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
        run.finish()
    model.eval()
    return TrainingResult(run.seconds, run.step, first)


class _Run:
    """Everything that changes from iteration to iteration, and its way to disk and back."""

    def __init__(
        self,
        model: nn.Module,
        dataset: DetectionDataset,
        recipe: TrainingRecipe,
        seed: int,
        normalisation: Normalisation,
        checkpoint: Path | None,
        description: Mapping[str, Any],
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.seed, self.checkpoint = recipe, seed, checkpoint
        backbone = getattr(model, "backbone", None)
        self.frozen = backbone if recipe.freeze_backbone else None
        if self.frozen is not None:
            self.frozen.requires_grad_(False)
        self.optimizer = build_optimizer(model, recipe)
        self.average = None if recipe.ema_decay is None else PolyakAverage(model, recipe.ema_decay)
        self.batches = TrainingBatches(dataset, recipe, normalisation, seed)
        self.device = next(model.parameters()).device
        self.step, self.seconds, self.finished = 0, 0.0, False
        described = {
            **description,
            "training": recipe.model_dump(mode="json"),
            "seed": seed,
            "data": dataset.fingerprint(),
            "classes": list(dataset.classes),
            "normalisation": normalisation.name,
        }
        # What a checkpoint gives back: tuples come back as lists.
        self.described: dict[str, Any] = json.loads(json.dumps(described))

    def train_mode(self) -> None:
        self.model.train()
        if self.frozen is not None:
            # Frozen parameters with moving BatchNorm statistics would not be a frozen backbone.
            self.frozen.eval()

    def save(self) -> None:
        if self.checkpoint is None:
            return
        done = self.finished
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "finished": done,
            "model": self.model.state_dict(),
            "optimizer": None if done else self.optimizer.state_dict(),
            "average": None if done or self.average is None else self.average.state_dict(),
        }
        save_checkpoint(self.checkpoint, {**self.described, **state})

    def load(self, path: Path) -> None:
        content = load_checkpoint(path, ("step", "seconds", "finished", "model", "optimizer", "average"))
        for key, value in self.described.items():
            if content.get(key) != value:
                raise InputError(
                    f"a checkpoint is continued with the {key} that it was made with",
                    value=_difference(content.get(key), value),
                    where=path,
                    repair="Use the recipe, data and seed as before, or remove the file to start anew.",
                )
        try:
            self.model.load_state_dict(content["model"])
            if not content["finished"]:
                self.optimizer.load_state_dict(content["optimizer"])
                if self.average is not None:
                    self.average.load_state_dict(content["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                "a checkpoint must fit the network",
                value=str(error).splitlines()[0],
                where=path,
                repair="Remove the file to start anew.",
            ) from error
        self.step, self.seconds, self.finished = content["step"], content["seconds"], content["finished"]

    def finish(self) -> None:
        """Put the parameters to evaluate in place, and write the last checkpoint."""
        if self.average is not None:
            # Reading images again may be interrupted, or fail.
            self.save()
            averaged = copy.deepcopy(self.model)
            self.average.copy_to(averaged)
            count = min(self.recipe.ema_batch_norm_batches, self.recipe.iterations)
            images = (batch.images.to(self.device) for batch in self.batches.ahead(0, count))
            reestimate_batch_norm(averaged, images)
            self.model.load_state_dict(averaged.state_dict())
        self.finished = True
        self.save()


def _iterate(run: _Run, losses: LossFunction, on_step: OnStep | None, interrupt: DeferredInterrupt) -> None:
    recipe = run.recipe
    run.train_mode()
    started = time.perf_counter() - run.seconds
    for batch in run.batches.ahead(run.step, recipe.iterations):
        # Random layers draw the same numbers in this iteration whether it is reached in one go or two.
        torch.manual_seed(run.seed * 1_000_003 + run.step)
        terms = losses(run.model, batch)
        values = {name: float(term.detach()) for name, term in terms.items()}
        if not all(map(math.isfinite, values.values())):
            raise _diverged(run, values)
        run.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
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
        if interrupt.requested and run.step < recipe.iterations:
            return
        if run.step % recipe.checkpoint_every == 0 and run.step < recipe.iterations:
            run.save()


def _diverged(run: _Run, values: Mapping[str, float]) -> DivergedError:
    written = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    clip = "" if run.recipe.gradient_clip is not None else ", set gradient_clip (10)"
    return DivergedError(
        "a training loss must be finite",
        value=f"{written} in iteration {run.step + 1} of {run.recipe.iterations}",
        where="recipe of the training",
        repair=f"Lower learning_rate (now {run.recipe.learning_rate:g}){clip} or warm up longer.",
    )


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key):
                return f"{key}: {_difference(found.get(key), wanted.get(key))}"
    return f"{str(found)[:60]} there, {str(wanted)[:60]} now"
