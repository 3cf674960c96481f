"""Which caches were found whole: a note beside each, so that a file is read once and not at every start.

``.NAME.whole`` holds the stamp of the file (:mod:`nasperc.file_stamp`) when every byte of it was as written, and its
SHA-256. A copy, a restored backup, and whatever a program writes into the file later, have another stamp. The note is
no protection from somebody who may write to the folder: who can change the cache can write the note as well. Nor from
a disk that flips a bit without a write: for that there is ``nasperc search --verify``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from feature_cache.opening import sign
from feature_cache.verify import verify
from nasperc.errors import InputError
from nasperc.file_stamp import FileStamp, file_stamp
from nasperc.plain_files import read_json
from nasperc.whole_files import write_whole

_NOTE_BYTES = 4096


def whole_sha256(path: Path) -> str | None:
    """The SHA-256 that a cache had when it was last found whole; None: never, or it may be another since.

    Raises:
        OSError: there is no such file.
    """
    stamp = file_stamp(path)
    try:
        note = read_json(_note(path), _NOTE_BYTES)
    except (OSError, ValueError):
        # None yet, or half of one: the cache is read again.
        return None
    known = (
        isinstance(note, dict) and note.get("stamp") == list(stamp) and isinstance(note.get("sha256"), str)
    )
    return note["sha256"] if known else None


def note_whole(path: Path, sha256: str, stamp: FileStamp) -> None:
    """Note that a cache was whole when it had this stamp."""
    # A folder that cannot be written to, or a full disk: each run reads the cache then.
    with suppress(OSError, InputError):
        write_whole(_note(path), json.dumps({"stamp": list(stamp), "sha256": sha256}) + "\n")


def read_whole(path: Path, on_progress: Callable[[float], None] = lambda fraction: None) -> str:
    """Read every byte, note that the cache is whole and vouch for it to the other processes of this run.

    Args:
        path: of the file.
        on_progress: called with the fraction read.

    Returns:
        Its SHA-256.

    Raises:
        InputError: no cache, cut short, or changed since it was written.
        OSError: it cannot be read.
    """
    stamp = file_stamp(path)
    report = verify(path, on_progress)
    if file_stamp(path) != stamp:
        raise InputError(
            "a cache must not be written to while it is read",
            value="another stamp than before",
            where=path,
            repair="Let whatever writes to it end, then type the same command.",
        )
    note_whole(path, report.sha256, stamp)
    sign(path, report.header)
    return report.sha256


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.whole")
