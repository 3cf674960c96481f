"""What a data set is known by: all that its annotations say, and the bytes of each of its files."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from nasperc.data.content import MOST_BYTES, PHASE, FileHashes
from nasperc.data.sample import Sample
from nasperc.errors import InputError
from nasperc.plain_files import read_bounded
from nasperc.whole_files import write_whole

_HASHES = re.compile(rb"([0-9a-f]{64}\n)+")


class Fingerprinted(ABC):
    """A data set whose files are read once for their hashes, at the latest when its fingerprint is asked for.

    Attributes:
        name: of the data set, for messages and reports.
        split: "train", "val", ...
        classes: names in the order of the labels.
        left_out: a name that stands among those of the classes in the annotations, and is none.
        hashes: SHA-256 (hex) of each of :meth:`files`; None: not read yet.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    left_out: str | None = None
    hashes: tuple[str, ...] | None = None
    _folder: Path | None = None
    _word: str | None = None

    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """Every file that samples are made of, in order."""

    @cached_property
    @abstractmethod
    def described(self) -> str:
        """SHA-256 (hex) of all that is known of the data set without the bytes of :meth:`files`."""

    @abstractmethod
    def old_fingerprint(self) -> str:
        """The fingerprint as it was before the bytes of images counted: of two data sets that differ in their pixels
        alone it is one and the same.

        Raises:
            InputError: a label map cannot be read.
        """

    def fingerprint(self) -> str:
        """SHA-256 (hex) of what is annotated and of the bytes of every file; where they lie does not count.

        Raises:
            InputError: a file cannot be read.
        """
        if self._word is None:
            if self.hashes is None:
                self.hashes = FileHashes(None).of(self.files())
            self._word = self._fingerprint_of(self.hashes)
        return self._word

    def take_word(self, fingerprint: str) -> None:
        """Take another process's word for the fingerprint: it has read the files."""
        self._word = fingerprint

    def read_files(
        self, folder: Path, on_progress: Callable[[str, float], None] = lambda phase, fraction: None
    ) -> list[str]:
        """Hash the files that changed since they were last hashed, and keep the hashes in ``folder``.

        Args:
            folder: of prepared files, shared by runs.
            on_progress: called with ``reading images`` and the fraction done, if files are read.

        Returns:
            What should be said, a line each.

        Raises:
            InputError: a file cannot be read.
        """
        if self.hashes is not None or self._word is not None:
            return []
        known = FileHashes(folder)
        self.hashes = known.of(self.files(), lambda fraction: on_progress(PHASE, fraction))
        self._folder = folder
        kept = _kept(folder, self.fingerprint())
        # Without it the first file that changed cannot be named; that something changed is known all the same.
        with suppress(OSError):
            if not kept.exists():
                write_whole(kept, "".join(f"{each}\n" for each in self.hashes).encode())
        return known.notes

    def while_unchanged(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Samples, and at their end a check that they were made of the bytes that the fingerprint stands for.

        Raises:
            InputError: as :meth:`check_unchanged`.
        """
        yield from samples
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Look whether files were written to since they were read for the fingerprint: what was made of them meanwhile
        must not get its name.

        Raises:
            InputError: one holds other bytes now.
        """
        if self._folder is None or self.hashes is None:
            return
        files = self.files()
        for file, then, now in zip(files, self.hashes, FileHashes(self._folder).of(files), strict=True):
            if then != now:
                raise InputError(
                    "files of a data set must not change while something is made of them",
                    value="other bytes than when they were first read",
                    where=file,
                    repair="Start again when nothing writes to them.",
                )

    def changed_since(self, is_meant: Callable[[str], bool]) -> Path | None:
        """The first file whose bytes are others than they were at an earlier fingerprint.

        Args:
            is_meant: whether a fingerprint is the earlier one.

        Returns:
            None: nothing is kept of that fingerprint, or more than the bytes of files has changed since.
        """
        if self._folder is None or self.hashes is None:
            return None
        files = self.files()
        for kept in sorted(self._folder.glob(_kept(self._folder, "*").name)):
            # Whatever another program left there, or took away meanwhile.
            with suppress(OSError, ValueError):
                content = read_bounded(kept, MOST_BYTES)
                before = tuple(content.decode().split()) if _HASHES.fullmatch(content) else ()
                if len(before) == len(files) and is_meant(self._fingerprint_of(before)):
                    return next(
                        (
                            file
                            for file, one, two in zip(files, before, self.hashes, strict=True)
                            if one != two
                        ),
                        None,
                    )
        return None

    def _fingerprint_of(self, hashes: Sequence[str]) -> str:
        return hashlib.sha256("\n".join((self.described, *hashes)).encode()).hexdigest()


def _kept(folder: Path, fingerprint: str) -> Path:
    """The hashes of a data set with that fingerprint, a line each: it follows from them, so no more is said."""
    return folder / f"images-{fingerprint[:16]}.sha256"
