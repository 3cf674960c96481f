"""Which file a path names, and whether it may have been written to since it was last looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class FileStamp(NamedTuple):
    """Inode, size in bytes, times of the last change of content (``mtime``) and of anything (``ctime``) in ns.

    A program can set ``mtime`` back, but not ``ctime``: a file with the stamp of before holds what it held before,
    short of a disk that flips bits. (The device is left out: a network file system may get another number at every
    mount.)
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """The stamp in what ``os.stat`` or ``os.fstat`` says."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def file_stamp(path: Path) -> FileStamp:
    """The stamp of the file that ``path`` names; links are followed.

    Raises:
        OSError: there is none.
    """
    return FileStamp.of(path.stat())
