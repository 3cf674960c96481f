"""SHA-256 of files, each read once: a list beside what is prepared says what was found in which state of a file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nasperc.errors import InputError
from nasperc.file_stamp import FileStamp
from nasperc.plain_files import read_bounded
from nasperc.whole_files import write_whole

LIST = "file-hashes.txt"
FORMAT = "nasperc-file-hashes/1"
# Some million files; what anybody may have written is not read without an end.
MOST_BYTES = 256 << 20
# What hashing is called where progress is shown.
PHASE = "reading images"
# The clock of a file system goes in ticks of up to 10 ms: a file that is written twice within one keeps its times.
_TICK_NS = 20_000_000
_TRIES = 3
# SHA-256, then inode, size, mtime and ctime, then the path as JSON, which has no end of line in it.
_LINE = re.compile(r'([0-9a-f]{64}) ([0-9]+ [0-9]+ -?[0-9]+ -?[0-9]+) ("[ -\x7f]*")')

# By absolute path as JSON: the stamp as text, the hash.
_Entries = dict[str, tuple[str, str]]


def no_progress(fraction: float) -> None:
    """The default: nobody is watching."""


class FileHashes:
    """Hashes of files; one with the stamp of before is not read again (see :class:`nasperc.file_stamp.FileStamp`).

    The list is written whole, and keeps what other processes wrote meanwhile. One that cannot be written costs another
    reading, nothing else.

    Args:
        folder: where the list is kept, that of prepared files; None: no list is kept.

    Attributes:
        notes: what should be said, a line each: a damaged list.
    """

    def __init__(self, folder: Path | None) -> None:
        self._list = None if folder is None else folder / LIST
        self.notes: list[str] = []

    def of(
        self, files: Sequence[Path], on_progress: Callable[[float], None] = no_progress
    ) -> tuple[str, ...]:
        """SHA-256 (hex) of each file's bytes, in order.

        Args:
            files: they need not be absolute.
            on_progress: called with the fraction of bytes read, if any file has to be read.

        Raises:
            InputError: one is no file, cannot be read, or changes again and again while it is read.
        """
        known, keys = self._read(), [_key(file) for file in files]
        sizes: dict[int, int] = {}
        for number, file in enumerate(files):
            stamp = _stamp(file)
            if known.get(keys[number], ("", ""))[0] != _text(stamp):
                sizes[number] = stamp.size
        if not sizes:
            return tuple(known[key][1] for key in keys)
        found: _Entries = {}
        total, done = max(1, sum(sizes.values())), 0
        try:
            for number, size in sizes.items():
                if keys[number] not in found:
                    found[keys[number]] = _hash(files[number])
                done += size
                on_progress(done / total)
        finally:
            # Also of an interrupted reading: gigabytes may have been read.
            self._write(found)
        known.update(found)
        return tuple(known[key][1] for key in keys)

    def _read(self) -> _Entries:
        """What the list holds; nothing of one that is damaged, which is noted."""
        if self._list is None:
            return {}
        try:
            return _parse(read_bounded(self._list, MOST_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self.notes.append(
                f"{self._list} is damaged ({error}): the files are read again, and it is written anew"
            )
            return {}

    def _write(self, found: Mapping[str, tuple[str, str]]) -> None:
        if self._list is None or not found:
            return
        entries: _Entries = {}
        # Another process may have written since this one began.
        with suppress(OSError, ValueError):
            entries = _parse(read_bounded(self._list, MOST_BYTES))
        content = _format({**entries, **found})
        if len(content) > MOST_BYTES:
            content = _format(found)
        # A folder that cannot be written to, or a full disk: the next command reads the files again.
        with suppress(OSError):
            self._list.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._list, content)


def _parse(content: bytes) -> _Entries:
    """The entries of a list.

    Raises:
        ValueError: it is none, or was changed since it was written.
    """
    head, _, body = content.partition(b"\n")
    if head != _head(body):
        raise ValueError(
            "its own checksum is another" if head.startswith(FORMAT.encode()) else "no such list"
        )
    entries: _Entries = {}
    for line in body.decode("ascii").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"a line {line[:80]!r}")
        entries[match[3]] = match[2], match[1]
    return entries


def _format(entries: Mapping[str, tuple[str, str]]) -> bytes:
    lines = (f"{digest} {stamp} {key}\n" for key, (stamp, digest) in entries.items())
    body = "".join(lines).encode("ascii")
    return _head(body) + b"\n" + body


def _head(body: bytes) -> bytes:
    return f"{FORMAT} {hashlib.sha256(body).hexdigest()}".encode()


def _key(file: Path) -> str:
    return json.dumps(os.path.abspath(file))


def _text(stamp: Iterable[int]) -> str:
    return " ".join(map(str, stamp))


def _stamp(file: Path) -> FileStamp:
    try:
        status = os.stat(file)
        # A pipe or a device would be read for ever.
        if not stat.S_ISREG(status.st_mode):
            raise OSError("no file")
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    return FileStamp.of(status)


def _hash(file: Path) -> tuple[str, str]:
    """Stamp and hash of a file, which was the same before and after it was read.

    Raises:
        InputError: it cannot be read, or is written to all the time.
    """
    for _ in range(_TRIES):
        _stamp(file)
        try:
            # Unbuffered: file_digest brings a large buffer of its own.
            with open(file, "rb", buffering=0) as stream:
                before = FileStamp.of(os.fstat(stream.fileno()))
                # No more than that where the clock of a file server is ahead.
                if abs(time.time_ns() - before.ctime_ns) < _TICK_NS:
                    time.sleep(_TICK_NS / 1e9)
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(file, error) from error
        if _stamp(file) == before:
            return _text(before), digest
    raise InputError(
        "a file of a data set must not change while it is read",
        value=f"another state after each of {_TRIES} readings",
        where=file,
        repair="Wait until whatever writes it has ended.",
    )


def _unreadable(file: Path, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(
        "an image or annotation must be readable",
        value=reason,
        where=file,
        repair="Replace the file, or take it off the split.",
    )
