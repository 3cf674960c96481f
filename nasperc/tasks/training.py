"""Full training as a task knows it: data, networks, plans, metrics, baselines. The rest is the same for every one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from torch import nn

from nasperc.assembly.datasets import Role
from nasperc.assembly.detector import Decoder
from nasperc.data.formats import has_split
from nasperc.data.image_check import ImageCheck
from nasperc.data.recipe import DataRecipe
from nasperc.errors import InputError
from nasperc.evaluation.latency import Latency, measure_latency
from nasperc.recipe.root import Recipe
from nasperc.tasks.presentation import Presentation
from nasperc.tasks.row import Activity, Job
from nasperc.training.peers import Peers
from nasperc.training.plan import TrainingPlan

# A large network on one thread takes seconds an image.
LATENCY_RUNS, LATENCY_WARMUP = 5, 2


class Split(Protocol):
    """What every task's data set offers; ``classes``: names in the order of the labels."""

    name: str
    classes: tuple[str, ...]
    left_out: str | None

    @property
    def images(self) -> ImageCheck: ...

    def __len__(self) -> int: ...

    def lines(self) -> list[str]: ...

    def fingerprint(self) -> str: ...

    def check_unchanged(self) -> None: ...

    def read_files(self, folder: Path, on_progress: Callable[[str, float], None]) -> list[str]: ...

    def take_word(self, fingerprint: str) -> None: ...


Model = TypeVar("Model", bound=nn.Module)
Data = TypeVar("Data", bound=Split)


class Splits(Mapping[str, Data], Generic[Data]):
    """The splits of a data set by role, ``train`` and at least one other; each is opened when it is first asked for.

    Args:
        data: the recipe's section.
        open_split: opens the split of a role.
        exists: whether a folder, of a format, has a split of that name.

    Raises:
        InputError: there is nothing to measure on.
    """

    def __init__(
        self,
        data: DataRecipe,
        open_split: Callable[[Role], Data],
        exists: Callable[[Path, str, str], bool] = has_split,
    ) -> None:
        self._roles, self._open = _roles(data, exists), open_split
        self._opened: dict[str, Data] = {}

    def __getitem__(self, role: str) -> Data:
        if role not in self._opened:
            self._opened[role] = self._open(next(known for known in self._roles if known == role))
        return self._opened[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._roles)

    def __len__(self) -> int:
        return len(self._roles)

    def __contains__(self, role: object) -> bool:
        return role in self._roles


class Phase(NamedTuple):
    """A part of a training with a plan and a checkpoint of its own; ``file``: the name of that."""

    file: str
    plan: TrainingPlan


@dataclass(frozen=True)
class Found:
    """What a search says of what it prepared: ``data`` and ``weights`` of its ``top10.json``."""

    data: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)


class Training(ABC, Generic[Model, Data]):
    """Full training of one task.

    Args:
        recipe: of the training: that of the search, with what was typed laid over it.
        prepared: folder of what runs share: a synthetic data set where the recipe names no other.
        searched: the recipe of the search.
        found: what it found; None: it is to find it yet.

    Attributes:
        splits: ``train``, and ``val`` or ``test`` or both.
        presentation: how its rows are ranked and shown.
        size: (H, W) that costs and latency are stated for.

    Raises:
        InputError: anything wrong with recipe or data.
    """

    presentation: ClassVar[Presentation]
    # What the data set consists of, in messages.
    examples: ClassVar[str]
    # The recipe's key to lower where every row diverges.
    rate: ClassVar[str]

    splits: Mapping[str, Data]
    size: tuple[int, int]

    @abstractmethod
    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Found | None) -> None:
        self.recipe = recipe

    def check_workers(self, workers: int) -> list[str]:
        """What is to be said of training with so many processes.

        Raises:
            InputError: it cannot be done: a task says by overriding this that it can.
        """
        if workers > 1:
            raise InputError(
                "networks of this task are trained by one process",
                value=workers,
                where="--workers",
                repair="Leave it out.",
            )
        return []

    def baselines(self, jobs: Sequence[Job]) -> list[Job]:
        """What stands beside the entries, of which there is at least one."""
        return []

    def iterations(self, job: Job) -> int:
        """Of its training, all phases together."""
        return self.recipe.fulltrain.iterations

    def budget(self) -> str:
        """The iterations of each row, in words."""
        return f"{self.recipe.fulltrain.iterations} iterations each"

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
    def describe(self, job: Job) -> dict[str, Any]:
        """What a checkpoint holds besides the weights so that :meth:`Task.read` can build the network; ``task`` in it
        is one of the task's models."""

    def part(self, description: Mapping[str, Any], where: str) -> Decoder | None:
        """The part of the job that was described so, for several processes; ``where`` names the source in errors.

        Raises:
            InputError: the space cannot be loaded, or the architecture is not one of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} is trained by one process")

    @abstractmethod
    def phases(self, model: Model, job: Job, peers: Peers | None = None) -> list[Phase]:
        """What is trained, in order; the last phase's file is ``checkpoint.pt``. Its plan's identity begins with what
        :meth:`describe` says.

        Args:
            model: by :meth:`build`; trained in place.
            job: of it.
            peers: the processes that share every batch; None: this one has all of it.
        """

    @abstractmethod
    def measure(self, model: Model, split: str, on_activity: Activity) -> dict[str, Any]:
        """Metrics on a split, as plain values.

        Raises:
            InputError: an image cannot be read.
        """

    def tell_measured(self, on_activity: Activity, split: str, done: int, total: int) -> None:
        """Say how many of a split's :attr:`examples` are measured."""
        on_activity(f"measuring on {split}", done / total, f"{done} of {total} {self.examples}")

    def can_measure(self, split: str) -> bool:
        """Whether the metric that rows are ranked by is defined on a split.

        Raises:
            InputError: an annotation cannot be read.
        """
        return True

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

    def latency(self, model: Model) -> Latency:
        """Of the network on an image of ``size``."""
        return measure_latency(model, self.size, runs=LATENCY_RUNS, warmup=LATENCY_WARMUP)


def _roles(data: DataRecipe, exists: Callable[[Path, str, str], bool]) -> list[Role]:
    """``train``, and of ``val`` and ``test`` those that the data set has.

    Raises:
        InputError: it has neither.
    """
    found: list[Role] = ["train"]
    named: tuple[tuple[Role, str], ...] = (("val", data.val_split), ("test", data.test_split))
    for role, split in named:
        if data.path is None or exists(data.path, split, data.format):
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
