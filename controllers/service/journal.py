"""The journal: append-only JSON Lines with a checksum a line, on the disk before anything is acknowledged.

Each line is one JSON object whose last key is ``crc``: the CRC-32 (eight hex digits) of the line's UTF-8 text
without that key. What the events are is told in :mod:`controllers.service.state`.
"""

from __future__ import annotations

import json
import os
import zlib
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controllers.service.event_types import has_right_types
from controllers.service.lock import RunLock
from nasperc.errors import InputError

Event = dict[str, Any]

_CRC_KEY = b',"crc":"'


class Journal:
    """The journal of a run, open for writing.

    Opening takes the run's lock, and cuts a torn last line off: it was never acknowledged.

    Args:
        path: the file; made when it does not exist. The lock stands beside it (``<name>.lock``).

    Raises:
        InputError: another process writes it (the message names it); a line before the last one is damaged;
            a line is no event.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(self.path.with_name(self.path.name + ".lock"))
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            events, ends = _parse(content, self.path)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except BaseException:
            self._lock.release()
            raise
        self._known: list[Event] | None = events
        self._offsets = array("q", [0, *ends])
        os.ftruncate(self._fd, self._offsets[-1])
        if events and content[self._offsets[-1] - 1 : self._offsets[-1]] != b"\n":
            # The line is whole, only its line feed was lost.
            os.pwrite(self._fd, b"\n", self._offsets[-1])
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
        lines = [_encode(event) for event in events]
        start = self._offsets[-1]
        try:
            _write_all(self._fd, b"".join(lines), start)
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
        for line in lines:
            self._offsets.append(self._offsets[-1] + len(line))

    def since(self, index: int) -> list[Event]:
        """Events from number ``index`` (the first is 0) on, read back from the file."""
        if not 0 <= index < len(self):
            return []
        start = self._offsets[index]
        content = os.pread(self._fd, self._offsets[-1] - start, start)
        return _parse(content, self.path)[0]

    def close(self) -> None:
        """Give the file and the lock back; again without effect."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._lock.release()

    @staticmethod
    def read(path: str | Path) -> list[Event]:
        """Every whole event of a journal, which may be written at the same time.

        Raises:
            InputError: no such file; a line before the last one is damaged; a line is no event.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(
                "a run must have a journal",
                value="no such file",
                where=path,
                repair="Name the folder of a search run.",
            )
        return _parse(path.read_bytes(), path)[0]


def _encode(event: Mapping[str, Any]) -> bytes:
    # NaN is no JSON; the service has replaced it before.
    text = json.dumps(dict(event), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return text[:-1] + _CRC_KEY + f"{zlib.crc32(text):08x}".encode() + b'"}\n'


def _decode(line: bytes) -> Event | None:
    """The event of a line without its line feed; None when the line is damaged."""
    body, key, crc = line.rpartition(_CRC_KEY)
    if not key or crc[8:] != b'"}' or crc[:8] != f"{zlib.crc32(body + b'}'):08x}".encode():
        return None
    try:
        event = json.loads(body + b"}")
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _parse(content: bytes, path: Path) -> tuple[list[Event], list[int]]:
    """Events, and for each the offset at which its line ends."""
    events: list[Event] = []
    ends: list[int] = []
    lines = content.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    offset = 0
    for number, line in enumerate(lines, start=1):
        event = _decode(line)
        if event is None:
            if number == len(lines):
                break
            raise InputError(
                "a line of a journal must fit its checksum",
                value=line[:60].decode(errors="replace"),
                where=f"{path}, line {number}",
                repair="The file was edited or the disk is failing: restore it, or cut it before that line.",
            )
        if not has_right_types(event):
            raise InputError(
                "a line of a journal must be an event as nasperc writes it",
                value=line[:60].decode(errors="replace"),
                where=f"{path}, line {number}",
                repair="The file was edited, or written by another version: restore it.",
            )
        offset = min(offset + len(line) + 1, len(content))
        events.append(event)
        ends.append(offset)
    return events, ends


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
