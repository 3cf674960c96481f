"""The task specification: all that a task brings, for training, measuring, showing and handing over its networks.

A task is registered as spaces, controllers and proxy tasks are (entry points ``nasperc.tasks``, or ``file.py:Class``);
a proxy task names the one that trains in full what it measured. ``docs/add_a_task.md`` has one of thirty lines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from nasperc.assembly.detector import Decoder
from nasperc.recipe.root import Recipe as RunRecipe
from nasperc.tasks.trained import Trained
from nasperc.tasks.training import Training
from search_spaces.base import SearchSpace


class TaskRecipe(BaseModel):
    """The section ``task`` of a recipe, but for the name: what the task's models have keys for.

    ``model``: one of :attr:`Task.models`; None: the first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None


class Task(ABC):
    """One task. It has no state: what is done with data or with weights is done by what it hands out."""

    # As it is registered.
    name: ClassVar[str]
    # What --task may name, and checkpoints call the task; the first is the default.
    models: ClassVar[tuple[str, ...]]
    Recipe: ClassVar[type[BaseModel]] = TaskRecipe
    # Full training: opens the data, builds, plans, measures, shows rows, has baselines at equal cost.
    Training: ClassVar[type[Training[Any, Any]]]

    @classmethod
    def takes(cls, space: SearchSpace) -> bool:
        """Whether an architecture of the space can become part of its networks."""
        return True

    @classmethod
    @abstractmethod
    def read(cls, content: Mapping[str, Any], path: Path) -> Trained:
        """The network of a checkpoint's content, which evaluates, predicts and has graphs to export.

        Args:
            content: ``task`` in it is one of :attr:`models`.
            path: names it in errors.

        Raises:
            InputError: not consistent in itself.
        """

    @classmethod
    @abstractmethod
    def network(cls, recipe: RunRecipe, decoder: Decoder, size: tuple[int, int]) -> nn.Module:
        """What costs and latencies are of: ``network(images (1, 3, *size))`` is all that an image costs, with random
        weights, for ``recipe.cost.classes`` classes. Where it has a ``divisor`` as a detector has, ``size`` is rounded
        up to a multiple of it.

        It is also built on the meta device (:meth:`require_fit`), where no tensor has values to read.

        Raises:
            InputError: widths that do not fit; the task takes no such decoder; a choice of the recipe that does not fit
                it, with those that do.
        """

    @classmethod
    def handmade(cls, recipe: RunRecipe) -> list[Decoder]:
        """The decoders that full training puts beside what was found, one of a kind, whatever its widths."""
        return []

    @classmethod
    def require_fit(cls, recipe: RunRecipe, found: Decoder) -> None:
        """Check that the networks of a full training can be built, by shapes alone and before data are opened.

        Args:
            recipe: of the training.
            found: one of those to be trained: all are of one search space, and offer the same levels and towers.

        Raises:
            InputError: as :meth:`network`, of ``found`` or of a decoder beside it.
        """
        for decoder in (found, *cls.handmade(recipe)):
            with torch.device("meta"):
                cls.network(recipe, decoder, recipe.cost.size)
