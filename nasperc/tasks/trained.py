"""A network that was trained in full, as it comes out of its checkpoint: measured, shown and handed over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import nn

from nasperc.assembly.detector import Searched
from nasperc.data.image_rules import ImageRules
from nasperc.data.recipe import AUTO
from nasperc.errors import InputError
from nasperc.tasks.exported import Exported
from nasperc.tasks.presentation import TableText

# Called with what is done and of how many.
OnProgress = Callable[[int, int], None]


# Of a field: how the option is typed, where not every task has it.
_SPELLING = "spelling"


@dataclass(frozen=True)
class EvaluateOptions:
    """``split``: its name, None: test, or val where there is no test. ``format``: of the data set, or "auto".
    ``strict``: degenerate boxes are errors. ``sequence_length``: of videos, None: whole runs. ``annotations``: in
    place of the data set's own. ``results``: where what is found is written as a test server of COCO takes it, a file
    or a folder. ``per_class``: a table by class, too."""

    split: str | None = None
    format: str = AUTO
    strict: bool = field(default=False, metadata={_SPELLING: "--strict"})
    sequence_length: int | None = field(default=None, metadata={_SPELLING: "--sequence-length"})
    annotations: Path | None = field(default=None, metadata={_SPELLING: "--annotations"})
    results: Path | None = field(default=None, metadata={_SPELLING: "--results"})
    per_class: bool = field(default=False, metadata={_SPELLING: "--per-class"})


@dataclass(frozen=True)
class PredictOptions:
    """``threshold``: lowest score that is written and drawn; None: the task's own. ``show``: a view of how the network
    comes to what it sees, another picture of each image; None: none."""

    threshold: float | None = field(default=None, metadata={_SPELLING: "--threshold"})
    show: str | None = field(default=None, metadata={_SPELLING: "--show"})


@dataclass(frozen=True)
class ExportOptions:
    """``size``: (H, W) of all images; None: any. ``dense``: what is predicted everywhere, in place of what is made of
    it. ``paste``: masks of the image's size. ``with_nms``: what is done anyhow; older command lines have it."""

    size: tuple[int, int] | None = field(default=None, metadata={_SPELLING: "--size"})
    dense: bool = field(default=False, metadata={_SPELLING: "--dense"})
    paste: bool = field(default=False, metadata={_SPELLING: "--paste"})
    with_nms: bool = field(default=False, metadata={_SPELLING: "--with-nms"})


@dataclass(frozen=True)
class Report:
    """What was measured on a split: ``notes`` of reading the data, ``tables`` and ``remarks`` below them to be printed,
    ``values`` as plain values for JSON."""

    notes: list[str]
    tables: list[TableText]
    values: dict[str, Any]
    remarks: list[str] = field(default_factory=list)


class Prediction(NamedTuple):
    """What was written: ``lines`` that say so; ``unreadable``: one error for each that was passed over of so many
    ``inputs``; ``others``: what became of the others then."""

    lines: list[str]
    inputs: int
    unreadable: list[InputError]
    others: str


class Trained(ABC):
    """A network from its checkpoint.

    Attributes:
        model: on the CPU and in evaluation mode.
        searched: the part that a search found; None: a baseline.
        classes: names in the order of the labels.
        images: how those that it was trained on were read.
        step: iterations that it was trained.
        finished: False: the schedule had not ended when it was written.
    """

    # What it is called where an option is none of its own.
    called: ClassVar[str]
    # What it is run on, one after another, where progress is told.
    examples: ClassVar[str] = "images"
    # The options that it has, as they are typed.
    own_options: ClassVar[frozenset[str]] = frozenset()

    model: nn.Module
    classes: tuple[str, ...]
    images: ImageRules
    step: int
    finished: bool

    @property
    @abstractmethod
    def searched(self) -> Searched | None: ...

    @abstractmethod
    def evaluate(self, data: Path, options: EvaluateOptions, on_progress: OnProgress | None = None) -> Report:
        """Measure it on a data set with its classes.

        Raises:
            InputError: the data set cannot be read, the split is missing, other classes.
        """

    def predict(
        self,
        checkpoint: Path,
        inputs: Sequence[Path],
        out: Path,
        options: PredictOptions,
        on_progress: OnProgress | None = None,
    ) -> Prediction:
        """Write what it sees in images, and pictures of it, into the folder ``out``, made if it is missing.

        Args:
            checkpoint: that it came from, for what is written.
            inputs: files, or a folder of frames.
            out, options, on_progress: see there.

        Raises:
            InputError: these are no inputs of the task, or it shows nothing.
        """
        raise self._has_no("predictions", "nasperc predict")

    def exported(self, options: ExportOptions) -> Exported:
        """What its exported files compute.

        Raises:
            InputError: it cannot be exported, or not so.
        """
        raise self._has_no("exported files", "nasperc export")

    def _has_no(self, what: str, command: str) -> InputError:
        return InputError(
            f"{what} are of tasks that have them",
            value=self.called,
            where=command,
            repair="nasperc evaluate measures it.",
        )

    def require_own(self, options: EvaluateOptions | PredictOptions | ExportOptions) -> None:
        """Refuse options that others have.

        Raises:
            InputError: one was typed.
        """
        for each in fields(options):
            spelling = each.metadata.get(_SPELLING)
            if spelling is None or spelling in self.own_options:
                continue
            if getattr(options, each.name) != each.default:
                raise InputError(
                    f"{spelling} is not for {self.called}",
                    value=str(getattr(options, each.name)),
                    where=spelling,
                    repair="Leave it out.",
                )
