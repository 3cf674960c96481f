"""A training on its way: everything that changes from iteration to iteration, and its way to disk and back."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasperc.errors import InputError, shown
from nasperc.old_files import without_new_keys
from nasperc.torch_files import not_finite
from nasperc.training.averaging import PolyakAverage, reestimate_batch_norm
from nasperc.training.checkpoint import load_checkpoint, save_checkpoint
from nasperc.training.peers import Peers
from nasperc.training.plan import TrainingPlan

_START_ANEW = "Remove the file to start anew."


class TrainingRun:
    """Network, optimisers and averages after ``step`` iterations.

    Of several ``peers`` the first writes the checkpoint, all read it.

    Args:
        model: on its device; trained in place.
        plan: what is done with it.
        seed: of random layers (that of the batches is theirs).
        checkpoint: file to write every ``checkpoint_every`` iterations and at the end; None: none.
        peers: the processes that share the batches.

    Attributes:
        pixels_known: False: it goes on from a checkpoint of before the bytes of images counted.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: TrainingPlan,
        *,
        seed: int,
        checkpoint: Path | None = None,
        peers: Peers | None = None,
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.plan, self.settings, self.optimizers = plan, plan.settings, plan.optimizers
        self.seed, self.checkpoint, self.peers = seed, checkpoint, peers or Peers()
        decay = plan.settings.ema_decay
        self.average = None if decay is None else PolyakAverage(model, decay)
        self.device = next(model.parameters()).device
        self.step, self.seconds, self.finished = 0, 0.0, False
        # What a checkpoint gives back: tuples come back as lists.
        self.identity: dict[str, Any] = json.loads(json.dumps(dict(plan.identity)))
        self.pixels_known = True

    def train_mode(self) -> None:
        """Put the network into training mode, its frozen part into evaluation mode."""
        self.model.train()
        if self.plan.frozen is not None:
            # Frozen parameters with moving BatchNorm statistics would not be a frozen network.
            self.plan.frozen.eval()

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision by the recipe, on CUDA."""
        if self.device.type == "cuda" and self.settings.mixed_precision:
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
            "optimizer": None if done else self.optimizers.state_dict(),
            "average": None if done or self.average is None else self.average.state_dict(),
        }
        save_checkpoint(self.checkpoint, {**self.identity, **state})

    def load(self) -> None:
        """Continue from the checkpoint, if there is one.

        Raises:
            InputError: it is unreadable, or was made with another recipe, seed, data set or network.
        """
        path = self.checkpoint
        if path is None or not path.exists():
            return
        keys = ("step", "seconds", "finished", "model", "optimizer", "average")
        content = load_checkpoint(path, keys, _START_ANEW)
        self._check_identity(content, path)
        try:
            self.model.load_state_dict(content["model"])
            if not content["finished"]:
                self.optimizers.load_state_dict(content["optimizer"])
                if self.average is not None:
                    self.average.load_state_dict(content["average"])
            self.step, self.seconds = int(content["step"]), float(content["seconds"])
            self.finished = bool(content["finished"])
            if not (0 <= self.step <= self.settings.iterations and 0 <= self.seconds < math.inf):
                raise ValueError(f"step {self.step} of {self.settings.iterations}, {self.seconds} s")
        # Whatever type stands where another is expected.
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                "a checkpoint must fit the network",
                value=(str(error) or type(error).__name__).splitlines()[0],
                where=path,
                repair=_START_ANEW,
            ) from error
        self._require_finite(path)

    def _require_finite(self, path: Path) -> None:
        state: dict[str, Any] = {"model": self.model.state_dict()}
        if not self.finished:
            state["optimizer"] = self.optimizers.state_dict()
            state["average"] = None if self.average is None else self.average.state_dict()
        name = not_finite(state)
        if name is not None:
            raise InputError(
                "what a checkpoint goes on from must be finite numbers",
                value=f"NaN or infinity in {name}",
                where=path,
                repair=_START_ANEW,
            )

    def _check_identity(self, content: Mapping[str, Any], path: Path) -> None:
        """Check that a checkpoint is of this training; an old one keeps the identity that it was given.

        Raises:
            InputError: it is not.
        """
        dataset, made_with = self.plan.dataset, content.get("data")
        if (
            dataset is not None
            and made_with != self.identity.get("data")
            and made_with == dataset.old_fingerprint()
        ):
            # What has ended is not continued: that crowds are now background to its preset changes nothing of it.
            dropped = {"crowd"} if content.get("finished") else set()
            kept = {key: value for key, value in self.identity.items() if key not in dropped}
            self.identity = without_new_keys({**kept, "data": made_with}, whatever=False)
            self.pixels_known = False
        for key, value in self.identity.items():
            if _same(content.get(key), value):
                continue
            changed = (
                dataset.changed_since(lambda data: data == made_with) if dataset and key == "data" else None
            )
            raise InputError(
                f"a checkpoint is continued with the {key} that it was made with",
                value=_difference(content.get(key), value)
                if changed is None
                else f"other bytes in {changed}, the first file that changed",
                where=path,
                repair="Use the recipe, data and seed as before, or remove the file to start anew.",
            )

    def finish(self) -> None:
        """Put the parameters to evaluate in place, and write the last checkpoint."""
        if self.average is not None:
            # Reading images again may be interrupted, or fail.
            self.save()
            averaged = copy.deepcopy(self.model)
            self.average.copy_to(averaged)
            count = min(self.settings.ema_batch_norm_batches, self.settings.iterations)
            images = (batch.images.to(self.device) for batch in self.plan.batches.ahead(0, count))
            reestimate_batch_norm(averaged, images)
            self.model.load_state_dict(averaged.state_dict())
        self.finished = True
        self.save()


def _same(found: Any, wanted: Any) -> bool:
    """Whether they are equal plain values; a tensor, which ``==`` would compare by elements, is none."""
    if type(found) is not type(wanted):
        return False
    if isinstance(found, dict):
        return found.keys() == wanted.keys() and all(_same(found[key], wanted[key]) for key in found)
    if isinstance(found, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    return bool(found == wanted)


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys(), key=str):
            if not _same(found.get(key), wanted.get(key)):
                return f"{key}: {_difference(found.get(key), wanted.get(key))}"
    return f"{shown(found)} there, {shown(wanted)} now"
