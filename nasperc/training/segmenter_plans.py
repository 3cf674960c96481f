"""What the training of segmentation networks consists of: the per-frame one, the cell alone, everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, Optimizer

from nasperc.data.normalisation import Normalisation
from nasperc.data.video import VideoDataset
from nasperc.models.segmenter import Segmenter, StaticSegmenter
from nasperc.models.video_segmenter import VideoSegmenter
from nasperc.training.optimizer import Optimizers
from nasperc.training.plan import LoopSettings, TrainingPlan
from nasperc.training.schedule import poly_factor
from nasperc.training.segmentation_batches import FrameBatches, SequenceBatches
from nasperc.training.segmentation_losses import later_frame_losses, sequence_losses, static_losses
from nasperc.training.segmentation_recipe import StaticTrainingRecipe, VideoTrainingRecipe


def static_plan(
    network: Segmenter,
    dataset: VideoDataset,
    recipe: StaticTrainingRecipe,
    *,
    normalisation: Normalisation,
    seed: int,
    identity: Mapping[str, Any],
) -> TrainingPlan:
    """Pre-training of a per-frame network on all annotated frames (thesis A.1).

    The encoder and all the rest have learning rates of their own. ``identity``: what a checkpoint must agree with.
    """
    batches = FrameBatches(dataset, recipe, normalisation, seed)
    iterations = recipe.iterations(batches.examples)
    rates = {"encoder": recipe.encoder_learning_rate, "decoder": recipe.decoder_learning_rate}
    parts: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in network.named_parameters():
        parts["encoder" if name.startswith("backbone.") else "decoder"].append(parameter)
    groups = [
        group for name, rate in rates.items() for group in _groups(parts[name], rate, recipe.weight_decay)
    ]
    optimizer = Adam(groups, fused=True) if recipe.optimizer == "adam" else _sgd(groups, recipe.momentum)
    return TrainingPlan(
        _settings(recipe, iterations, "encoder_learning_rate and decoder_learning_rate"),
        batches,
        Optimizers((optimizer, _poly(iterations, recipe.power))),
        partial(static_losses, auxiliary_weight=recipe.auxiliary_weight, size=recipe.loss_size),
        identity,
        dataset=dataset,
    )


def cell_plan(
    network: VideoSegmenter,
    dataset: VideoDataset,
    recipe: VideoTrainingRecipe,
    *,
    normalisation: Normalisation,
    seed: int,
    identity: Mapping[str, Any],
) -> TrainingPlan:
    """The first phase of 6.4.2: the cell alone, on the frozen static network, by Adam.

    Raises:
        InputError: there is no sequence of the recipe's length.
    """
    phase = recipe.cell
    batches = SequenceBatches(dataset, phase.batch_size, recipe, normalisation, seed)
    iterations = phase.iterations(batches.examples)
    adam = Adam(_groups(network.cell.parameters(), phase.learning_rate, recipe.weight_decay), fused=True)
    return TrainingPlan(
        _settings(recipe, iterations, "cell.learning_rate"),
        batches,
        Optimizers((adam, _poly(iterations, phase.power))),
        partial(sequence_losses, length=recipe.sequence_length, size=recipe.loss_size, train_static=False),
        identity,
        frozen=network.static,
        dataset=dataset,
    )


def end_to_end_plan(
    network: VideoSegmenter | StaticSegmenter,
    dataset: VideoDataset,
    recipe: VideoTrainingRecipe,
    *,
    normalisation: Normalisation,
    seed: int,
    identity: Mapping[str, Any],
) -> TrainingPlan:
    """The second phase of 6.4.2: everything; Adam for the cell, SGD for the static network.

    A static network alone, the per-frame baseline, is trained further by SGD on the same batches: on the same frames
    of them, all after the first of each sequence, each by itself.

    Raises:
        InputError: there is no sequence of the recipe's length.
    """
    # Other batches than those of the first phase.
    phase, seed = recipe.end_to_end, seed + 1
    batches = SequenceBatches(dataset, phase.batch_size, recipe, normalisation, seed)
    iterations = phase.iterations(batches.examples)
    schedule = _poly(iterations, phase.power)
    static = network.static if isinstance(network, VideoSegmenter) else network
    optimizers: list[tuple[Optimizer, Callable[[int], float]]] = []
    if isinstance(network, VideoSegmenter):
        groups = _groups(network.cell.parameters(), phase.cell_learning_rate, recipe.weight_decay)
        optimizers.append((Adam(groups, fused=True), schedule))
        losses = partial(sequence_losses, train_static=True)
    else:
        losses = partial(later_frame_losses)
    groups = _groups(static.parameters(), phase.static_learning_rate, recipe.weight_decay)
    optimizers.append((_sgd(groups, phase.momentum), schedule))
    return TrainingPlan(
        _settings(recipe, iterations, "end_to_end.cell_learning_rate and end_to_end.static_learning_rate"),
        batches,
        Optimizers(*optimizers),
        partial(losses, length=recipe.sequence_length, size=recipe.loss_size),
        identity,
        dataset=dataset,
    )


def _groups(parameters: Iterable[nn.Parameter], rate: float, decay: float) -> list[dict[str, Any]]:
    """The group of those that take gradients; none where none does."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [{"params": trained, "lr": rate, "base_lr": rate, "weight_decay": decay}] if trained else []


def _sgd(groups: list[dict[str, Any]], momentum: float) -> SGD:
    return SGD(groups, momentum=momentum, fused=True)


def _poly(iterations: int, power: float) -> Callable[[int], float]:
    return partial(poly_factor, iterations, power)


def _settings(
    recipe: StaticTrainingRecipe | VideoTrainingRecipe, iterations: int, rates: str
) -> LoopSettings:
    clip = "" if recipe.gradient_clip is not None else ", or set gradient_clip (3)"
    return LoopSettings(
        iterations,
        recipe.checkpoint_every,
        recipe.gradient_clip,
        mixed_precision=recipe.mixed_precision,
        repair=f"Lower {rates}{clip}.",
    )
