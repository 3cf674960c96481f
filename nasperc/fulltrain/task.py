"""What full training does otherwise from task to task; all the rest is the same for every one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import nn

from nasperc.assembly.datasets import Role
from nasperc.data.formats import has_split
from nasperc.data.image_check import ImageCheck
from nasperc.data.recipe import DataRecipe
from nasperc.errors import InputError
from nasperc.evaluation.latency import Latency
from nasperc.fulltrain.presentation import Presentation
from nasperc.fulltrain.row import Activity, Job, Workers
from nasperc.recipe.root import Recipe
from nasperc.search.top10 import Top10File
from nasperc.training.loop import TrainingResult

# A large network on one thread takes seconds an image.
LATENCY_RUNS, LATENCY_WARMUP = 5, 2


class Split(Protocol):
    """What every task's data set offers; ``classes``: names in the order of the labels."""

    name: str
    classes: tuple[str, ...]

    @property
    def images(self) -> ImageCheck: ...

    def __len__(self) -> int: ...

    def lines(self) -> list[str]: ...

    def fingerprint(self) -> str: ...

    def check_unchanged(self) -> None: ...

    def read_files(self, folder: Path, on_progress: Callable[[str, float], None]) -> list[str]: ...


Model = TypeVar("Model", bound=nn.Module)
Data = TypeVar("Data", bound=Split)


class FullTask(ABC, Generic[Model, Data]):
    """Full training of one task.

    Attributes:
        recipe: of the training.
        splits: ``train``, and ``val`` or ``test`` or both.
        presentation: how its rows are ranked and shown.
        size: (H, W) that costs and latency are stated for.
    """

    # What --task may name.
    names: ClassVar[tuple[str, ...]]
    presentation: ClassVar[Presentation]
    # What the data set consists of, in messages.
    examples: ClassVar[str]
    # The recipe's key to lower where every row diverges.
    rate: ClassVar[str]

    recipe: Recipe
    splits: Mapping[str, Data]
    size: tuple[int, int]

    @abstractmethod
    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Top10File | None) -> None:
        """Open the data.

        Args:
            recipe: of the training: that of the search, with what was typed laid over it.
            prepared: folder of what runs share: a synthetic data set where the recipe names no other.
            searched: the recipe of the search.
            found: what it found, which says what it prepared; None: it is to find it yet.

        Raises:
            InputError: anything wrong with recipe or data.
        """

    @abstractmethod
    def check_workers(self, workers: int) -> list[str]:
        """What is to be said of training with so many processes.

        Raises:
            InputError: it cannot be done.
        """

    @abstractmethod
    def baselines(self, jobs: Sequence[Job]) -> list[Job]:
        """What stands beside the entries, of which there is at least one."""

    @abstractmethod
    def iterations(self, job: Job) -> int:
        """Of its training, all phases together."""

    @abstractmethod
    def budget(self) -> str:
        """The iterations of each row, in words."""

    def notes(self) -> list[str]:
        """What the user should be told once of the data, a line each.

        Raises:
            InputError: an image of any split is one that would be refused when it is read.
        """
        for split in self.splits.values():
            split.images.require()
        return list(dict.fromkeys(line for split in self.splits.values() for line in split.lines()))

    def prepare(self, on_activity: Activity) -> list[str]:
        """What all rows share, before the first of them.

        Returns:
            What should be said of it, a line each.

        Raises:
            InputError: data or weights cannot be used.
        """
        return []

    def other_than_searched(self, weights: Mapping[str, Any]) -> list[str]:
        """What is to be said of how that which was prepared differs from what the search had.

        Args:
            weights: as ``top10.json`` describes the search's.
        """
        return []

    def about(self) -> dict[str, Any]:
        """Plain values for ``results.json``, after :meth:`prepare`."""
        return {}

    @abstractmethod
    def build(self, job: Job) -> tuple[Model, dict[str, Any]]:
        """The network to train, on its device, and what is known of it already: the row's ``depth``, ``flops`` and
        ``params``.

        Raises:
            InputError: weights cannot be used.
        """

    @abstractmethod
    def train(
        self, model: Model, job: Job, folder: Path, on_activity: Activity, workers: Workers | None
    ) -> TrainingResult:
        """Train in place; writes ``checkpoint.pt`` and ``log.csv``. A finished one is loaded.

        Raises:
            InputError: an image cannot be read, a checkpoint is of another training.
            DivergedError: a loss is not finite.
            KeyboardInterrupt: a checkpoint was written.
        """

    @abstractmethod
    def measure(self, model: Model, split: str, on_activity: Activity) -> dict[str, Any]:
        """Metrics on a split, as plain values.

        Raises:
            InputError: an image cannot be read.
        """

    @abstractmethod
    def can_measure(self, split: str) -> bool:
        """Whether the metric that rows are ranked by is defined on a split.

        Raises:
            InputError: an annotation cannot be read.
        """

    def check_selects(self) -> None:
        """Refuse data that cannot tell which row is best.

        Raises:
            InputError: the metric is undefined on the split that selects.
        """
        split = selecting(self.splits)
        if not self.can_measure(split):
            raise InputError(
                f"{self.presentation.heading} must be defined to select by it",
                value=f"{split}: {self.presentation.nothing}",
                where=f"{self.splits[split].name} {split}",
                repair="Use a data set with annotated val images, or --select-fpn proxy.",
            )

    @abstractmethod
    def latency(self, model: Model) -> Latency:
        """Of the network on an image of ``size``."""


def roles(data: DataRecipe) -> list[Role]:
    """``train``, and of ``val`` and ``test`` those that the data set has.

    Raises:
        InputError: it has neither.
    """
    found: list[Role] = ["train"]
    named: tuple[tuple[Role, str], ...] = (("val", data.val_split), ("test", data.test_split))
    for role, split in named:
        if data.path is None or has_split(data.path, split, data.format):
            found.append(role)
    if len(found) == 1:
        raise InputError(
            "a data set for full training needs a split to measure on",
            value=f"neither {data.val_split} nor {data.test_split}",
            where=str(data.path),
            repair="Add one, or name the split with --set data.val_split=NAME.",
        )
    return found


def selecting(splits: Collection[str]) -> str:
    """The split that the best row is chosen by."""
    return "val" if "val" in splits else "test"


def report_images(on_activity: Activity, split: str, total: int, done: int) -> None:
    """Show how many images of a split are measured."""
    on_activity(f"measuring on {split}", done / total, f"{done} of {total} images")
