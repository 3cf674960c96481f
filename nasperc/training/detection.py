"""Training of a detector: full training, and fine-tuning the backbone before a search."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nasperc.data.batch import Batch
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.models.detector import Detector
from nasperc.models.features import DIVISOR
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.training import loop
from nasperc.training.batches import TrainingBatches
from nasperc.training.loop import OnStep, TrainingResult
from nasperc.training.optimizer import Optimizers, build_optimizer
from nasperc.training.output_and_targets import output_and_targets
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

    Raises:
        InputError, DivergedError, KeyboardInterrupt: see there.
    """
    plan = detection_plan(
        model,
        dataset,
        recipe,
        seed=seed,
        normalisation=normalisation,
        description=description,
        losses=losses,
    )
    run = TrainingRun(model, plan, seed=seed, checkpoint=checkpoint)
    return loop.train(run, on_step=on_step, resume=resume)


def detection_plan(
    model: nn.Module,
    dataset: DetectionDataset,
    recipe: TrainingRecipe,
    *,
    seed: int,
    normalisation: Normalisation,
    description: Mapping[str, Any] | None = None,
    losses: LossFunction | None = None,
    peers: Peers | None = None,
) -> TrainingPlan:
    """What the training of a detector consists of, or one process's part in it.

    Args:
        model, dataset, recipe, seed, normalisation, description, losses: as for :func:`train`.
        peers: the processes that share every batch; None: this one has all of it.
    """
    peers = peers or Peers()
    frozen = getattr(model, "backbone", None) if recipe.freeze_backbone else None
    if frozen is not None:
        frozen.requires_grad_(False)
    if losses is None:
        losses = partial(detection_losses, size_scale=recipe.sizes_of_interest_scale, reduce=peers.reduce)
    trained, crowd, divisor = dataset, {}, DIVISOR
    if isinstance(model, Detector):
        divisor = model.divisor
    if isinstance(model, Detector) and model.crowd == "background":
        trained = dataset.without_crowd_regions()
        # Where it makes no difference, older checkpoints, which do not say, are continued.
        crowd = {} if trained is dataset else {"crowd": model.crowd}
    return TrainingPlan(
        settings=_settings(recipe),
        batches=TrainingBatches(trained, recipe, normalisation, seed, peers, divisor),
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
        on_progress=model.on_progress if isinstance(model, Detector) else None,
    )


def detection_losses(
    model: nn.Module, batch: Batch, size_scale: float = 1.0, reduce: Reduce = reduce_alone
) -> dict[str, Tensor]:
    """The losses of a detector by name, all scalars.

    ``model`` is a :class:`Detector`; images and targets are moved to its device. Images without objects are
    background throughout. ``size_scale``: factor on the head's sizes of interest. ``reduce``: of the processes
    that share the batch, see :meth:`Detector.losses`.
    """
    assert isinstance(model, Detector)
    losses: dict[str, Tensor] = model.losses(*output_and_targets(model, batch, size_scale), reduce)._asdict()
    return losses


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
