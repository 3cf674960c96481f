"""One writer a run: a lock file that names its holder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import IO

from nasperc.errors import InputError

# A pid and the name of a host.
_MOST_CHARACTERS = 4096


class RunLock:
    """An exclusive lock on a file that holds the writer's pid and host.

    The kernel drops the lock when its holder dies, however it dies, so a stale file of this host is simply
    taken over. File systems shared between hosts do not always carry such locks: a file that names another
    host is respected until someone deletes it.

    Raises:
        InputError: another writer holds it; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held as long as the lock)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder()
            self._file.close()
            raise _held(path, holder, "Wait for it to end, or stop that process.") from None
        pid, host = self._holder()
        if host not in (None, socket.gethostname()):
            self._file.close()
            raise _held(path, (pid, host), f"If nothing runs there any more, delete {path}.")
        self._write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))

    def release(self) -> None:
        """Give the lock back; again without effect."""
        if not self._file.closed:
            self._write("")
            self._file.close()

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    def _holder(self) -> tuple[int | None, str | None]:
        self._file.seek(0)
        try:
            values = json.loads(self._file.read(_MOST_CHARACTERS))
            return int(values["pid"]), str(values["host"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            # Empty after a clean release; half-written when the holder died that very moment.
            return None, None


def _held(path: Path, holder: tuple[int | None, str | None], repair: str) -> InputError:
    pid, host = holder
    return InputError(
        "a run has one writer at a time",
        value=f"a second one; process {pid or 'unknown'} on {host or 'this host'} holds it",
        where=path,
        repair=repair,
    )
