"""What the exported files of a network compute, whatever the format, and how far a format's files agree with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

# A file as a function of a graph's arguments, in their order.
Run = Callable[..., Sequence[Tensor]]


class Graph(NamedTuple):
    """One file.

    ``name``: of several, ``NAME-<name>.onnx`` for ``NAME.onnx``; None: the only one. ``module``: in evaluation mode,
    ``module(*arguments)`` gives ``outputs``, in their order; by name what the file says of each, its ``shape`` in any
    case, of numbers and of names for what is free. ``arguments``: to trace with, by name. ``dynamic_shapes``: of
    ``torch.export``. ``values``: what else the file says of its tensors.
    """

    name: str | None
    module: nn.Module
    arguments: dict[str, Tensor]
    outputs: Mapping[str, Mapping[str, Any]]
    dynamic_shapes: dict[str, Any]
    values: Mapping[str, Any]

    def path(self, path: Path) -> Path:
        """Of the file, for what was typed."""
        return path if self.name is None else path.with_name(f"{path.stem}-{self.name}{path.suffix}")


class Agreement(ABC):
    """How far files agree with torch; as text, a line for the user."""

    @abstractmethod
    def check(self) -> None:
        """Do nothing if they agree.

        Raises:
            InputError: they do not.
        """

    @abstractmethod
    def __str__(self) -> str: ...


class Exported(ABC):
    """What a task's network is when it is handed over.

    ``about``: plain values that every file holds. ``size``: (H, W) of all images; None: any.
    """

    about: Mapping[str, Any]
    size: tuple[int, int] | None = None

    @abstractmethod
    def graphs(self, smallest: int) -> tuple[Graph, ...]:
        """One file each.

        Args:
            smallest: side of an image that the format takes.
        """

    @abstractmethod
    def compare(
        self,
        graphs: Sequence[Graph],
        runs: Sequence[Run],
        paths: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
    ) -> Agreement:
        """Compare files with the modules that they were made from, on random images.

        Args:
            graphs: of :meth:`graphs`.
            runs: the files.
            paths: of the files, for the message.
            sizes: (H, W) of the images.
        """
