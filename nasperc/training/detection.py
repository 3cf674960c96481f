"""Training of a detector: full training, and fine-tuning the backbone before a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.models.detector import Detector
from nasperc.training import loop
from nasperc.training.batches import TrainingBatches
from nasperc.training.detection_losses import detection_losses
from nasperc.training.interrupt import DeferredInterrupt
from nasperc.training.loop import OnStep, TrainingResult
from nasperc.training.optimizer import Optimizers, build_optimizer
from nasperc.training.peers import Peers
from nasperc.training.plan import LoopSettings, LossFunction, TrainingPlan
from nasperc.training.recipe import TrainingRecipe
from nasperc.training.schedule import learning_rate_factor
from nasperc.training.training_run import TrainingRun


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
    elsewhere: Callable[[str, OnStep | None], None] | None = None,
) -> TrainingResult:
    """Train a detector in place, as :func:`nasperc.training.loop.train` does.

    Args:
        model: a :class:`Detector`.
        dataset: the split to train on.
        recipe: schedule, optimiser and image sizes.
        seed: of batches, augmentation and random layers (not of the initialisation, which the caller did).
        normalisation: the backbone's.
        checkpoint: file to write every ``recipe.checkpoint_every`` iterations and at the end; None: none.
        description: plain values stored with it; a checkpoint with other values is not resumed.
        losses: ``(model, batch) -> terms``; None: those of a detector.
        on_step, resume: see there.
        elsewhere: see there; called with the fingerprint of the data, too, so that no other process reads them for it.

    Raises:
        InputError, DivergedError, KeyboardInterrupt: see there.
    """
    run = _run(model, dataset, recipe, seed, normalisation, checkpoint, description, Peers(), losses)
    there = None if elsewhere is None else partial(elsewhere, dataset.fingerprint())
    return loop.train(run, on_step=on_step, resume=resume, elsewhere=there)


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
    """One process's part in the training of a detector, see :func:`nasperc.training.loop.train_part`.

    The arguments are those of :func:`train`, alike in all processes. ``peers``: the processes.
    """
    run = _run(model, dataset, recipe, seed, normalisation, checkpoint, description, peers, None)
    loop.train_part(run, on_step, interrupt)


def _run(
    model: nn.Module,
    dataset: DetectionDataset,
    recipe: TrainingRecipe,
    seed: int,
    normalisation: Normalisation,
    checkpoint: Path | None,
    description: Mapping[str, Any] | None,
    peers: Peers,
    losses: LossFunction | None,
) -> TrainingRun:
    assert isinstance(model, Detector)
    frozen = model.backbone if recipe.freeze_backbone else None
    if frozen is not None:
        frozen.requires_grad_(False)
    if losses is None:
        losses = partial(detection_losses, size_scale=recipe.sizes_of_interest_scale, reduce=peers.reduce)
    trained, crowd = dataset, {}
    if model.crowd == "background":
        trained = dataset.without_crowd_regions()
        # Where it makes no difference, older checkpoints, which do not say, are continued.
        crowd = {} if trained is dataset else {"crowd": model.crowd}
    plan = TrainingPlan(
        settings=_settings(recipe),
        batches=TrainingBatches(trained, recipe, normalisation, seed, peers, model.divisor),
        optimizers=Optimizers((build_optimizer(model, recipe), partial(learning_rate_factor, recipe))),
        losses=losses,
        identity={
            **(description or {}),
            "training": recipe.model_dump(mode="json"),
            "seed": seed,
            "data": dataset.fingerprint(),
            "images": dataset.rules.model_dump(mode="json"),
            **crowd,
            "classes": list(dataset.classes),
            "normalisation": normalisation.name,
        },
        frozen=frozen,
        dataset=dataset,
    )
    return TrainingRun(model, plan, seed=seed, checkpoint=checkpoint, peers=peers)


def _settings(recipe: TrainingRecipe) -> LoopSettings:
    clip = "" if recipe.gradient_clip is not None else ", set gradient_clip (10)"
    return LoopSettings(
        recipe.iterations,
        recipe.checkpoint_every,
        recipe.gradient_clip,
        recipe.ema_decay,
        recipe.ema_batch_norm_batches,
        recipe.mixed_precision,
        f"Lower learning_rate (now {recipe.learning_rate:g}){clip} or warm up longer.",
    )
