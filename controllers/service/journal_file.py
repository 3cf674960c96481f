"""The open file of a journal: one writer, every byte on the disk, and an error as soon as the disk no longer has it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nasperc.errors import InputError
from nasperc.file_lock import FileLock, held, holder_of, lock_now
from nasperc.whole_files import names_file, open_in_place, sync_folder, writing_whole

ONE_WRITER = "a run has one writer at a time"
# A service whose driver was killed, or that Ray has started again, lives on for a moment.
PREDECESSOR_S = 8.0
_POLL_S = 0.05
_CHUNK = 1 << 20


class JournalFile:
    """The file, open for appending. Two locks keep other writers out: one on the file itself, then one on
    ``<name>.lock`` beside it, which names the writer and is the one that older versions know.

    Before and after every write the file must be the one of that name, and as long as it was left.

    Args:
        path: the file; made where there is none.

    Raises:
        InputError: another process writes it, and goes on doing so for some seconds; a link, or no plain file.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = _open_locked(path)
        try:
            self._lock = FileLock(
                _lock_path(path), ONE_WRITER, how_to_take_over(path.parent), wait_s=PREDECESSOR_S
            )
        except BaseException:
            os.close(self._descriptor)
            raise
        self._size = os.fstat(self._descriptor).st_size
        # A file that was made just now keeps its name, whatever happens.
        os.fsync(self._descriptor)
        sync_folder(path.parent)
        self._failure: InputError | None = None

    @property
    def size(self) -> int:
        """Bytes that were acknowledged, or found at opening."""
        return self._size

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """What stands from byte ``start`` to ``end``; None: to the end of the file."""
        return os.pread(self._descriptor, (self._size if end is None else end) - start, start)

    def write(self, content: bytes, start: int) -> None:
        """Write ``content`` at byte ``start``, and let the file end with it; it is on the disk, under the journal's
        name, when this returns.

        Raises:
            InputError: the disk is full or gone; the file was removed, replaced or changed by somebody else, or
                another writer has its lock. Nothing more can be written then: whoever wrote holds a state that the
                journal does not imply.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._check_place(self._size)
            self._lock.check()
            _write_all(self._descriptor, content, start)
            if start + len(content) < self._size:
                os.ftruncate(self._descriptor, start + len(content))
            os.fsync(self._descriptor)
            self._check_place(start + len(content))
            self._size = start + len(content)
        except InputError as error:
            self._failure = error
            raise
        except OSError as error:
            self._failure = InputError(
                "the journal must be written before anything is acknowledged",
                value=f"{error.strerror} (errno {error.errno})",
                where=self.path,
                repair="Free space on that disk, then resume the run: every acknowledged event is kept.",
            )
            os.ftruncate(self._descriptor, start)
            raise self._failure from error
        except BaseException:
            # Ctrl-C: whether the content is on the disk is not known, and whoever opens the journal next finds out.
            self._failure = InputError(
                "a journal is not written any more once a write was interrupted",
                value="another event",
                where=self.path,
                repair=f"Go on with: nasperc search --resume {self.path.parent}",
            )
            raise

    def close(self) -> None:
        """Give the file and the locks back; again without effect.

        Raises:
            InputError: the file was removed, replaced or changed by somebody else since the last write; what it held
                is rescued.
        """
        if self._descriptor < 0:
            return
        try:
            if self._failure is None:
                self._check_place(self._size)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
            self._lock.release()

    def _check_place(self, size: int) -> None:
        """Check that the ``size`` bytes that were written can be found by whoever opens the journal.

        Raises:
            InputError: it cannot; what the file still holds stands beside it then.
        """
        found = os.fstat(self._descriptor).st_size
        if names_file(self.path, self._descriptor):
            if found == size:
                return
            what = f"{found} bytes where {size} were written"
        else:
            what = (
                "another file of its name" if os.path.lexists(self.path) else "none: it was moved or removed"
            )
        rescued = self._rescue(size)
        raise InputError(
            "the journal of a running search must stay as it was written",
            value=what,
            where=self.path,
            repair=f"{rescued} Look what else writes there, put that file or a copy of yours in the journal's place, "
            f"then: nasperc search --resume {self.path.parent}",
        )

    def _rescue(self, size: int) -> str:
        """Write what was written, as far as the open file still holds it, to a file of its own; in words."""
        size = min(size, os.fstat(self._descriptor).st_size)
        if not size:
            return "Nothing of it is left in the open file."
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = 1
            while os.path.lexists(rescued := folder / f"{self.path.stem}-rescued-{number}{self.path.suffix}"):
                number += 1
            with writing_whole(rescued, durable=True) as part:
                _copy(self._descriptor, part, size)
        except (OSError, InputError) as error:
            return f"What the open file holds could not be written ({error})."
        return f"What the open file still held is in {rescued}."


def how_to_take_over(run: Path) -> str:
    """What to type where the run of a host that died cannot be resumed, since that one still has its locks."""
    return f"nasperc search --resume {run} --take-over"


def require_no_writer(path: Path) -> None:
    """Look whether a journal is written, by an older version too, which has no other lock than this.

    Raises:
        InputError: it is, and goes on to be for some seconds.
    """
    if _lock_path(path).exists():
        FileLock(_lock_path(path), ONE_WRITER, how_to_take_over(path.parent), wait_s=PREDECESSOR_S).release()


def free_journal(path: Path) -> None:
    """Take a journal from a writer whose host died, where the file system keeps its locks.

    Should that writer live after all, it finds another file in the journal's place, and writes no more.

    Raises:
        InputError: the writer lives on this host.
        OSError: the journal cannot be copied.
    """
    lock = FileLock(
        _lock_path(path), ONE_WRITER, how_to_take_over(path.parent), wait_s=PREDECESSOR_S, take_over=True
    )
    lock.release()
    if not path.exists():
        return
    descriptor = open_in_place(path, os.O_RDWR)
    try:
        if lock.before.is_elsewhere or not lock_now(descriptor):
            with writing_whole(path, durable=True) as part:
                _copy(descriptor, part, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _open_locked(path: Path) -> int:
    """The file, locked, and of that name still."""
    until = time.monotonic() + PREDECESSOR_S
    while True:
        descriptor = open_in_place(path, os.O_RDWR | os.O_CREAT)
        try:
            free = lock_now(descriptor)
            if free and names_file(path, descriptor):
                descriptor, taken = -1, descriptor
                return taken
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if not free:
            holder = holder_of(_lock_path(path))
            if time.monotonic() > until or holder.is_this_process:
                raise held(path, holder, ONE_WRITER, how_to_take_over(path.parent))
            time.sleep(_POLL_S)


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _copy(descriptor: int, path: Path, size: int) -> None:
    """The first ``size`` bytes of an open file."""
    with path.open("wb") as file:
        for start in range(0, size, _CHUNK):
            file.write(os.pread(descriptor, min(_CHUNK, size - start), start))
