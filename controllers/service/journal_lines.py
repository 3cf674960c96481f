"""A line of the journal: one JSON object, its place in the file, a checksum.

The last three keys of a line are ``n``, its number in the file (the first is 1), ``prev``, a SHA-256, and ``crc``,
the CRC-32 (eight hex digits) of the line's UTF-8 text without that key. ``prev`` is of the line before, without its
line feed; where that carries none itself (an older version wrote it, or there is no line), of all bytes before. So a
line that is missing, doubled, swapped or of another file is seen at the one after it. Lines without ``n`` and ``prev``
are an older version's: only its ``run_resume`` may follow a line that has them. What is missing at the file's end no
chain can show.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from controllers.service.event_types import has_right_types
from nasperc.errors import InputError

Event = dict[str, Any]

_CRC_KEY = b',"crc":"'
_PLACE = re.compile(rb',"n":(0|[1-9][0-9]{0,17}),"prev":"([0-9a-f]{64})"\Z')


class Dropped(NamedTuple):
    """The last line of a journal, which cannot be read; ``torn``: its end is missing, so it was never acknowledged."""

    line: int
    bytes: int
    torn: bool

    def __str__(self) -> str:
        what = (
            "was torn, and never acknowledged"
            if self.torn
            else "does not fit its checksum; what it said is lost, and is done again"
        )
        return f"line {self.line}, the last one ({self.bytes} bytes), {what}"


class Parsed(NamedTuple):
    """What a journal says.

    ``ends``: for each event, the offset at which its line ends; ``prev``: what the next line has to carry;
    ``dropped``: the last line, if it cannot be read.
    """

    events: list[Event]
    ends: list[int]
    prev: str
    dropped: Dropped | None


def encode(event: Mapping[str, Any], number: int, prev: str) -> bytes:
    """The line of an event, with its line feed.

    Raises:
        ValueError: NaN, which is no JSON; the service has replaced it before.
    """
    text = json.dumps(dict(event), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    text = text[:-1] + f',"n":{number},"prev":"{prev}"}}'.encode()
    return text[:-1] + _CRC_KEY + f"{zlib.crc32(text):08x}".encode() + b'"}\n'


def hash_of(line: bytes) -> str:
    """What the line after this one carries."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def parse(content: bytes, path: Path, before: int = 0) -> Parsed:
    """Read lines, each of which must follow the one before it.

    Args:
        content: of the file.
        path: of it, for messages.
        before: so many lines are left out at its beginning; the first that is there may follow anything.

    Raises:
        InputError: a line before the last one is damaged; one does not follow the one before it; one is no event.
    """
    events: list[Event] = []
    ends: list[int] = []
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    offset, last, chained, dropped = 0, b"", before > 0, None
    for number, line in enumerate(lines, start=before + 1):
        where = f"{path}, line {number}"
        decoded = _decode(line)
        if decoded is None:
            if number == before + len(lines):
                dropped = Dropped(number, len(line), torn=not content.endswith(b"\n"))
                break
            raise _damaged(line, where)
        event, place = decoded
        if place is None:
            if chained and events and event.get("event") != "run_resume":
                raise _out_of_place("a line without number", where)
        elif place[0] != number:
            raise _out_of_place(f"number {place[0]} in place {number}", where)
        # Of a part of a journal the line before, or all the bytes before, may be missing.
        elif ((events and chained) or not before) and place[1] != _prev(
            last if chained else None, content, offset
        ):
            raise _out_of_place("one that was written after another line", where)
        if not has_right_types(event):
            raise InputError(
                "a line of a journal must be an event as nasperc writes it",
                value=line[:60].decode(errors="replace"),
                where=where,
                repair="The file was edited, or written by another version: restore it.",
            )
        offset = min(offset + len(line) + 1, len(content))
        last, chained = line, place is not None
        events.append(event)
        ends.append(offset)
    return Parsed(events, ends, _prev(last if chained else None, content, offset), dropped)


def unreadable(dropped: Dropped, path: Path) -> InputError:
    """What a last line that may not be dropped is answered with."""
    return InputError(
        "the last line of a journal must fit its checksum",
        value=f"{dropped.bytes} bytes that do not",
        where=f"{path}, line {dropped.line}",
        repair=f"Restore the file, or go on without that line: nasperc search --resume {path.parent}",
    )


def _damaged(line: bytes, where: str) -> InputError:
    return InputError(
        "a line of a journal must fit its checksum",
        value=line[:60].decode(errors="replace"),
        where=where,
        repair="The file was edited or the disk is failing: restore it, or cut it before that line.",
    )


def _out_of_place(found: str, where: str) -> InputError:
    return InputError(
        "a line of a journal must follow the one before it",
        value=found,
        where=where,
        repair="Lines are missing, doubled, swapped or of another run: restore the file, or cut it before that line "
        "(what stood there is then done again).",
    )


def _prev(line: bytes | None, content: bytes, end: int) -> str:
    """What the line behind ``end`` carries; ``line``: the one before, None where that carries nothing itself."""
    if line is not None:
        return hash_of(line)
    before = content[:end]
    # The last line feed may have been lost; it is written again.
    return hashlib.sha256(before + b"\n" if before and not before.endswith(b"\n") else before).hexdigest()


def _decode(line: bytes) -> tuple[Event, tuple[int, str] | None] | None:
    """Event and place of a line without its line feed; None when the line is damaged."""
    body, key, crc = line.rpartition(_CRC_KEY)
    if not key or crc[8:] != b'"}' or crc[:8] != f"{zlib.crc32(body + b'}'):08x}".encode():
        return None
    place = _PLACE.search(body)
    if place is not None:
        body = body[: place.start()]
    try:
        event = json.loads(body + b"}")
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    return event, None if place is None else (int(place[1]), place[2].decode())
