"""What a task hands to the training loop: batches, optimisers and losses. The loop knows no task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nasperc.data.batch import Batch
from nasperc.data.fingerprinted import Fingerprinted
from nasperc.training.batches import Batches
from nasperc.training.optimizer import Optimizers

LossFunction = Callable[[nn.Module, Batch], dict[str, Tensor]]


@dataclass(frozen=True)
class LoopSettings:
    """The keys of a recipe that the loop itself obeys.

    ``gradient_clip``: bound on the norm of all gradients together. ``ema_decay``: evaluate an exponential average of
    the parameters, with BatchNorm statistics estimated over ``ema_batch_norm_batches`` batches, which the model must
    take by their images. ``mixed_precision``: bfloat16 autocast, on CUDA only. ``repair``: what to do where the
    losses are no longer finite.
    """

    iterations: int
    checkpoint_every: int
    gradient_clip: float | None = None
    ema_decay: float | None = None
    ema_batch_norm_batches: int = 50
    mixed_precision: bool = True
    repair: str = "Lower the learning rate."


@dataclass(frozen=True)
class TrainingPlan:
    """A training of one network.

    ``losses``: ``(model, batch) -> terms``, scalars whose sum is minimised. ``identity``: plain values that are stored
    in a checkpoint; one with other values is not continued. ``frozen``: a part of the network without gradients,
    which stays in evaluation mode. ``dataset``: what the batches are of, by whose fingerprint the identity names the
    ``data``; None: it names none. ``on_progress``: called before each iteration with the share of all that are done.
    """

    settings: LoopSettings
    batches: Batches
    optimizers: Optimizers
    losses: LossFunction
    identity: Mapping[str, Any]
    frozen: nn.Module | None = None
    dataset: Fingerprinted | None = None
    on_progress: Callable[[float], None] | None = None
