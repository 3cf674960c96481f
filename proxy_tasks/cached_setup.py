"""What every proxy task's cache is made from begins with: a data set known by its bytes, or, of an old run, not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

from nasperc.data.fingerprinted import Fingerprinted
from nasperc.errors import InputError
from nasperc.old_files import PIXELS_NOT_KNOWN
from proxy_tasks.base import Progress, TaskContext, no_progress


class CachedSetup(ABC):
    """Data and their fingerprint, found out by the driver; its workers take its word.

    Args:
        context: see :class:`TaskContext`.

    Attributes:
        old: a run goes on that began before the bytes of images counted, with what it was given then.
        notes: what should be said of the reading, a line each.
    """

    def __init__(self, context: TaskContext) -> None:
        self.context = context
        self.old = bool((context.known or {}).get("old"))
        self.notes: list[str] = []

    @cached_property
    @abstractmethod
    def dataset(self) -> Fingerprinted:
        """The train split: all that the search sees."""

    @abstractmethod
    def check_parts(self) -> None:
        """Look for something to learn and something to measure, before files are read or anything is trained.

        Raises:
            InputError: meta-train or meta-val shows nothing of a class.
        """

    def read_data(self, on_progress: Progress = no_progress) -> None:
        """Read what changed of the data set's files since any run last did; a worker reads nothing.

        Raises:
            InputError: a file cannot be read.
        """
        if self.context.known is not None:
            self.dataset.take_word(self.context.known["data"])
        self.notes += self.dataset.read_files(self.context.folder, on_progress)

    @property
    def data(self) -> str:
        """The fingerprint of the data that records are made from."""
        if self.context.known is not None:
            return str(self.context.known["data"])
        self.read_data()
        return self.old_data if self.old else self.dataset.fingerprint()

    @cached_property
    def old_data(self) -> str:
        """The fingerprint that the data had before the bytes of images counted."""
        self.read_data()
        return self.dataset.old_fingerprint()

    def known(self) -> dict[str, Any]:
        """What workers take the driver's word for."""
        return {"data": self.data, "old": self.old}

    def go_on_as_old(self) -> None:
        """From here on everything is named as the run that is resumed named it."""
        self.old = True
        self.notes.append(
            f"{PIXELS_NOT_KNOWN}: this run began before the bytes of images were looked at; it goes on with the cache "
            "that it made then"
        )

    def check_may_build(self, path: Path) -> None:
        """Refuse to build what an old run has lost.

        Raises:
            InputError: the run is an old one.
        """
        if self.old:
            raise InputError(
                "a run that began before the bytes of images were looked at goes on with what it prepared then",
                value="no usable file, and it would be built by other rules now",
                where=path,
                repair="Put the file back, or begin a new run (--warm-start RUN learns from what this one measured).",
            )
