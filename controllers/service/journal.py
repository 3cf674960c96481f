"""The journal: append-only JSON Lines with a checksum a line, on the disk before anything is acknowledged.

Each line is one JSON object whose last key is ``crc``: the CRC-32 (eight hex digits) of the line's UTF-8 text
without that key. What the events are is told in :mod:`controllers.service.state`.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controllers.service.event_types import has_right_types
from controllers.service.journal_file import JournalFile
from nasperc.errors import InputError

Event = dict[str, Any]

_CRC_KEY = b',"crc":"'


class Journal:
    """The journal of a run, open for writing.

    Opening takes the file's locks, and cuts a torn last line off: it was never acknowledged.

    Args:
        path: the file; made when it does not exist.

    Raises:
        InputError: as :class:`JournalFile`; a line before the last one is damaged; a line is no event.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = JournalFile(self.path)
        try:
            content = self._file.read()
            events, ends = _parse(content, self.path)
            self._known: list[Event] | None = events
            self._offsets = array("q", [0, *ends])
            self._file.cut(self._offsets[-1])
            if events and content[self._offsets[-1] - 1 : self._offsets[-1]] != b"\n":
                # The line is whole, only its line feed was lost.
                self._file.append(b"\n")
                self._offsets[-1] += 1
        except BaseException:
            self._file.close()
            raise

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
            InputError: as :meth:`JournalFile.append`. Nothing more can be written then.
        """
        lines = [_encode(event) for event in events]
        self._file.append(b"".join(lines))
        for line in lines:
            self._offsets.append(self._offsets[-1] + len(line))

    def since(self, index: int) -> list[Event]:
        """Events from number ``index`` (the first is 0) on, read back from the file."""
        if not 0 <= index < len(self):
            return []
        return _parse(self._file.read(self._offsets[index]), self.path)[0]

    def close(self) -> None:
        """Give the file and its locks back; again without effect.

        Raises:
            InputError: as :meth:`JournalFile.close`.
        """
        self._file.close()

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
