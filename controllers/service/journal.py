"""The journal: append-only JSON Lines in a chain, on the disk before anything is acknowledged.

What a line holds beside its event is told in :mod:`controllers.service.journal_lines`, what the events are in
:mod:`controllers.service.state`.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controllers.service.journal_lines import Event, encode, hash_of, parse, unreadable
from controllers.service.lock import RunLock
from nasperc.errors import InputError

__all__ = ["Event", "Journal"]


class Journal:
    """The journal of a run, open for writing.

    Opening takes the run's lock and changes nothing: a last line that cannot be read is replaced by the first one that
    is written, so that who is refused before has not taken it away.

    Args:
        path: the file; made when it does not exist. The lock stands beside it (``<name>.lock``).

    Attributes:
        dropped: the last line, where it cannot be read.

    Raises:
        InputError: another process writes it (the message names it); a line before the last one is damaged; one
            does not follow the one before it; one is no event.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(self.path.with_name(self.path.name + ".lock"))
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            parsed = parse(content, self.path)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except BaseException:
            self._lock.release()
            raise
        self._known: list[Event] | None = parsed.events
        self.dropped, self._prev = parsed.dropped, parsed.prev
        self._offsets = array("q", [0, *parsed.ends])
        self._cut = self.dropped is None
        # Where the last line is whole, and only its line feed was lost.
        self._missing = b""
        if parsed.events and content[self._offsets[-1] - 1 : self._offsets[-1]] != b"\n":
            self._missing = b"\n"
            self._offsets[-1] += 1
        os.fsync(self._fd)
        _sync_folder(self.path.parent)
        self._failure: InputError | None = None

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def take_known(self) -> list[Event]:
        """The events that were there at opening; handed over once, so that they do not stay in memory."""
        events, self._known = self._known, None
        assert events is not None
        return events

    def append(self, *events: Mapping[str, Any]) -> None:
        """Write events, flush and fsync; they are on the disk when this returns.

        Raises:
            InputError: the disk is full or gone. Nothing more can be written then: whoever wrote holds a
                state that the journal does not imply.
        """
        if self._failure is not None:
            raise self._failure
        lines: list[bytes] = []
        prev = self._prev
        for number, event in enumerate(events, start=len(self) + 1):
            lines.append(encode(event, number, prev))
            prev = hash_of(lines[-1])
        start = self._offsets[-1] - len(self._missing)
        content = b"".join([self._missing, *lines])
        try:
            _write_all(self._fd, content, start)
            if not self._cut:
                os.ftruncate(self._fd, start + len(content))
                self._cut = True
            os.fsync(self._fd)
        except OSError as error:
            self._failure = InputError(
                "the journal must be written before anything is acknowledged",
                value=f"{error.strerror} (errno {error.errno})",
                where=self.path,
                repair="Free space on that disk, then resume the run: every acknowledged event is kept.",
            )
            os.ftruncate(self._fd, start)
            raise self._failure from error
        self._prev, self._missing = prev, b""
        for line in lines:
            self._offsets.append(self._offsets[-1] + len(line))

    def since(self, index: int) -> list[Event]:
        """Events from number ``index`` (the first is 0) on, read back from the file.

        Raises:
            InputError: they are not what was written.
        """
        if not 0 <= index < len(self):
            return []
        start = self._offsets[index]
        content = os.pread(self._fd, self._offsets[-1] - start, start)
        parsed = parse(content, self.path, before=index)
        if parsed.dropped is not None:
            raise unreadable(parsed.dropped, self.path)
        return parsed.events

    def close(self) -> None:
        """Give the file and the lock back; again without effect."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._lock.release()

    @staticmethod
    def read(path: str | Path, *, to_open: bool = False) -> list[Event]:
        """Every whole event of a journal, which may be written at the same time: a torn last line is left out.

        Args:
            path: of the file.
            to_open: the reader is about to go on with the run: a damaged last line is dropped, and said, by the
                journal that it opens. Nobody else is given a journal without it.

        Raises:
            InputError: no such file; a line is damaged, does not follow the one before it, or is no event.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(
                "a run must have a journal",
                value="no such file",
                where=path,
                repair="Name the folder of a search run.",
            )
        parsed = parse(path.read_bytes(), path)
        if parsed.dropped is not None and not (parsed.dropped.torn or to_open):
            raise unreadable(parsed.dropped, path)
        return parsed.events


def _write_all(fd: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
