"""A training on its way: everything that changes from iteration to iteration, and its way to disk and back."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError, shown
from nasperc.training.averaging import PolyakAverage, reestimate_batch_norm
from nasperc.training.batches import TrainingBatches
from nasperc.training.checkpoint import load_checkpoint, save_checkpoint
from nasperc.training.optimizer import build_optimizer
from nasperc.training.peers import Peers
from nasperc.training.recipe import TrainingRecipe


class TrainingRun:
    """Network, optimiser, averages and batches after ``step`` iterations; arguments as of ``loop.train``.

    Of several ``peers`` the first writes the checkpoint, all read it.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: DetectionDataset,
        recipe: TrainingRecipe,
        seed: int,
        normalisation: Normalisation,
        checkpoint: Path | None,
        description: Mapping[str, Any],
        peers: Peers,
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.seed, self.checkpoint, self.peers = recipe, seed, checkpoint, peers
        backbone = getattr(model, "backbone", None)
        self.frozen = backbone if recipe.freeze_backbone else None
        if self.frozen is not None:
            self.frozen.requires_grad_(False)
        self.optimizer = build_optimizer(model, recipe)
        self.average = None if recipe.ema_decay is None else PolyakAverage(model, recipe.ema_decay)
        self.batches = TrainingBatches(dataset, recipe, normalisation, seed, peers)
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
        """Put the network into training mode, a frozen backbone into evaluation mode."""
        self.model.train()
        if self.frozen is not None:
            # Frozen parameters with moving BatchNorm statistics would not be a frozen backbone.
            self.frozen.eval()

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision by the recipe, on CUDA."""
        if self.device.type == "cuda" and self.recipe.mixed_precision:
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def save(self) -> None:
        """Write the checkpoint, if there is to be one.

        Raises:
            InputError: it cannot be written.
        """
        if self.checkpoint is None or self.peers.rank > 0:
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

    def load(self) -> None:
        """Continue from the checkpoint, if there is one.

        Raises:
            InputError: it is unreadable, or was made with another recipe, seed, data set or network.
        """
        path = self.checkpoint
        if path is None or not path.exists():
            return
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
            self.step, self.seconds = int(content["step"]), float(content["seconds"])
            self.finished = bool(content["finished"])
        # Whatever type stands where another is expected.
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                "a checkpoint must fit the network",
                value=(str(error) or type(error).__name__).splitlines()[0],
                where=path,
                repair="Remove the file to start anew.",
            ) from error

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


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key):
                return f"{key}: {_difference(found.get(key), wanted.get(key))}"
    return f"{shown(found)} there, {shown(wanted)} now"
