"""The journal: append-only JSON Lines in a chain, on the disk before anything is acknowledged.

What a line holds beside its event is told in :mod:`controllers.service.journal_lines`, what the events are in
:mod:`controllers.service.state`.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controllers.service.journal_file import JournalFile
from controllers.service.journal_lines import Event, encode, hash_of, parse, unreadable
from nasperc.errors import InputError

__all__ = ["Event", "Journal"]


class Journal:
    """The journal of a run, open for writing.

    Opening takes the file's locks and changes nothing: a last line that cannot be read is replaced by the first one
    that is written, so that who is refused before has not taken it away.

    Args:
        path: the file; made when it does not exist.

    Attributes:
        dropped: the last line, where it cannot be read.

    Raises:
        InputError: as :class:`JournalFile`; a line before the last one is damaged; one does not follow the one before
            it; one is no event.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = JournalFile(self.path)
        try:
            content = self._file.read()
            parsed = parse(content, self.path)
        except BaseException:
            self._file.close()
            raise
        self._known: list[Event] | None = parsed.events
        self.dropped, self._prev = parsed.dropped, parsed.prev
        self._offsets = array("q", [0, *parsed.ends])
        # Where the last line is whole, and only its line feed was lost.
        self._missing = b""
        if parsed.events and content[self._offsets[-1] - 1 : self._offsets[-1]] != b"\n":
            self._missing = b"\n"
            self._offsets[-1] += 1

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
            InputError: as :meth:`JournalFile.write`. Nothing more can be written then.
        """
        lines: list[bytes] = []
        prev = self._prev
        for number, event in enumerate(events, start=len(self) + 1):
            lines.append(encode(event, number, prev))
            prev = hash_of(lines[-1])
        # Behind the last event there is what was dropped, or nothing.
        self._file.write(b"".join([self._missing, *lines]), self._offsets[-1] - len(self._missing))
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
        parsed = parse(self._file.read(self._offsets[index], self._offsets[-1]), self.path, before=index)
        if parsed.dropped is not None:
            raise unreadable(parsed.dropped, self.path)
        return parsed.events

    def close(self) -> None:
        """Give the file and its locks back; again without effect.

        Raises:
            InputError: as :meth:`JournalFile.close`.
        """
        self._file.close()

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
