"""One process at a time prepares a folder; the others wait and find the work done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasperc.whole_files import open_in_place


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``; released by the system if the process dies.

    Where the system has no ``flock`` nothing is locked: files appear under their names only when whole, so
    two processes then do the same work twice but never see half of it.

    Raises:
        InputError: a link, or no plain file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_in_place(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass
        yield
    finally:
        os.close(descriptor)
