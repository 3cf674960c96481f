"""One process at a time prepares a folder; the others wait and find the work done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``; released by the system if the process dies.

    Where the system has no ``flock`` nothing is locked: files appear under their names only when whole, so
    two processes then do the same work twice but never see half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass
        yield
