"""What every proxy task's cache is made from begins with: a data set known by its bytes, or, of an old run, not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

from feature_cache.header import Header
from feature_cache.opening import probe_header
from nasperc.data.fingerprinted import Fingerprinted
from nasperc.errors import InputError
from nasperc.old_files import PIXELS_NOT_KNOWN
from proxy_tasks.base import Progress, TaskContext, no_progress


@dataclass(frozen=True)
class DataIdentity:
    """What all that is made of a data set is named by.

    ``fingerprint``, ``classes``: of the data set. ``old``: of the time before the bytes of images counted.
    """

    fingerprint: str
    classes: tuple[str, ...]
    old: bool = False


class CachedSetup(ABC):
    """Data and their identity, found out by the driver; its workers take its word.

    Args:
        context: see :class:`TaskContext`.

    Attributes:
        notes: what should be said of the reading, a line each.
    """

    # The names of a task's caches.
    CACHES: ClassVar[str]

    def __init__(self, context: TaskContext) -> None:
        self.context = context
        self.notes: list[str] = []
        self._given: DataIdentity | None = None
        if context.known is not None:
            known = context.known
            self._given = DataIdentity(known["fingerprint"], tuple(known["classes"]), known["old"])

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

    @abstractmethod
    def data_in(self, header: Header) -> Mapping[str, Any] | None:
        """What a cache was made of: ``data`` (a fingerprint) and ``classes``; None: it is not one of this split."""

    def read_data(self, on_progress: Progress = no_progress) -> None:
        """Read what changed of the data set's files since any run last did; a worker reads nothing.

        Raises:
            InputError: a file cannot be read.
        """
        if self.context.known is not None:
            self.dataset.take_word(self.context.known["fingerprint"])
        self.notes += self.dataset.read_files(self.context.folder, on_progress)

    @property
    def identity(self) -> DataIdentity:
        """Of the data that records are made from."""
        if self._given is not None:
            return self._given
        self.read_data()
        return DataIdentity(self.dataset.fingerprint(), self.dataset.classes)

    @cached_property
    def old_identity(self) -> DataIdentity:
        """Which the data had before the bytes of images counted."""
        self.read_data()
        return DataIdentity(self.dataset.old_fingerprint(), self.dataset.classes, old=True)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels in the caches; nothing is read for them."""
        return self.dataset.classes if self._given is None else self._given.classes

    @property
    def old(self) -> bool:
        """A run goes on that began before the bytes of images counted, with what it was given then."""
        return self._given is not None and self._given.old

    def known(self) -> dict[str, Any]:
        """What workers take the driver's word for."""
        return asdict(self.identity)

    def old_identities(self) -> Iterator[DataIdentity]:
        """Of the data set as older versions knew it, whose readers took some annotations for others: those that stand
        in the caches beside the runs."""
        for path in sorted(self.context.folder.glob(self.CACHES)):
            # What cannot be read is no cache to go on with.
            with suppress(InputError):
                made_of = self.data_in(probe_header(path)) or {}
                data, classes = made_of.get("data"), made_of.get("classes")
                if isinstance(data, str) and _are_names(classes):
                    yield DataIdentity(data, tuple(classes), old=True)

    def go_on_as_old(self, identity: DataIdentity) -> None:
        """From here on everything is named as the run that is resumed named it."""
        self._given = identity
        self.notes.append(
            f"{PIXELS_NOT_KNOWN}: this run began before the bytes of images were looked at; it goes on with the cache "
            "that it made then"
        )
        if identity != self.old_identity:
            self.notes.append(
                f"{self.dataset.name} {self.dataset.split}: its annotations are others than those in that cache, or "
                "are read by other rules now (areas, crowds, difficult objects, names of classes); this run measures "
                "on those that it began with"
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


def _are_names(classes: Any) -> TypeGuard[list[str]]:
    return isinstance(classes, list) and all(isinstance(name, str) for name in classes)
