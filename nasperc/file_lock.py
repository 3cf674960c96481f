"""One holder at a time: a lock on a file that names its holder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

from nasperc.errors import InputError
from nasperc.whole_files import names_file, open_in_place, writing_whole

# A pid and the name of a host.
_MOST_BYTES = 4096
_LARGEST_PID = 2**31 - 1
_POLL_S = 0.05
# Whoever has just taken the lock writes its name at once.
_NAMING_S = 1.0


class Holder(NamedTuple):
    """Who holds a lock, or held it last; None where the file does not say."""

    pid: int | None
    host: str | None

    @property
    def is_elsewhere(self) -> bool:
        """Another host is named."""
        return self.host not in (None, socket.gethostname())

    @property
    def is_alive_here(self) -> bool:
        """The process named runs on this host."""
        if self.pid is None or self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Somebody else's.
            return True
        return True

    @property
    def is_this_process(self) -> bool:
        """Whoever waits for it waits for ever."""
        return self == (os.getpid(), socket.gethostname())

    def __str__(self) -> str:
        return f"process {self.pid or 'unknown'} on {self.host or 'this host'}"


class FileLock:
    """An exclusive lock on a file that holds the holder's pid and host; a context manager.

    The kernel drops the lock when its holder dies, however it dies, so a file of this host that is left over is
    simply taken over. File systems shared between hosts do not always carry such locks, and some keep that of a host
    that died: another host is respected, unless ``take_over`` says that nothing runs there any more. The file itself
    is never removed: two could hold a lock on files of one name then.

    Args:
        path: of the file; made where there is none. Its folder exists.
        rule: of the error: what must hold.
        how_to_take_over: of the error: what to type once nothing runs on the other host.
        wait_s: how long to wait for another process to give it back.
        take_over: take it from another host. A process that lives on this one keeps it.

    Attributes:
        before: who held it last, where that one did not give it back.

    Raises:
        InputError: another holder, whom the message names; a link, or no plain file.
        OSError: the file cannot be opened.
    """

    def __init__(
        self, path: Path, rule: str, how_to_take_over: str, *, wait_s: float = 0.0, take_over: bool = False
    ) -> None:
        self.path, self._rule, self._how = path, rule, how_to_take_over
        self._descriptor, self.before = self._acquire(wait_s, take_over)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def check(self) -> None:
        """Check that the file is still the one of that name; where somebody has removed it, it is made again.

        Raises:
            InputError: another process has taken the lock since; or its folder is gone.
        """
        if names_file(self.path, self._descriptor):
            return
        lost = self._descriptor
        try:
            self._descriptor, _ = self._acquire(0.0, False)
        except FileNotFoundError as error:
            raise InputError(
                self._rule,
                value="none: its folder was moved or removed",
                where=self.path,
                repair="Put the folder back, then type the same command.",
            ) from error
        os.close(lost)

    def release(self) -> None:
        """Give the lock back; again without effect."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def _acquire(self, wait_s: float, take_over: bool) -> tuple[int, Holder]:
        began = time.monotonic()
        while True:
            descriptor = open_in_place(self.path, os.O_RDWR | os.O_CREAT)
            try:
                free = lock_now(descriptor)
                holder = _read(descriptor)
                if free and names_file(self.path, descriptor):
                    if holder.is_elsewhere and not take_over:
                        raise held(self.path, holder, self._rule, self._how)
                    if holder.is_elsewhere:
                        # Free to this host alone, where locks do not cross hosts: one who lives there must find out.
                        return self._replace(), holder
                    _write(descriptor)
                    descriptor, taken = -1, descriptor
                    return taken, holder
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
            # Nobody gives back what he holds while he waits for it himself.
            named = holder.is_alive_here or holder.is_elsewhere
            patience = wait_s if named else max(wait_s, _NAMING_S)
            waiting = time.monotonic() < began + patience and not holder.is_this_process
            if not free and not waiting:
                if not take_over or holder.is_alive_here:
                    raise held(self.path, holder, self._rule, self._how)
                return self._replace(), holder
            if not free:
                time.sleep(_POLL_S)

    def _replace(self) -> int:
        """Another file in the place of one whose lock nobody will give back."""
        with writing_whole(self.path) as part:
            descriptor = open_in_place(part, os.O_RDWR)
            lock_now(descriptor)
            _write(descriptor)
        return descriptor


def holder_of(path: Path) -> Holder:
    """Whom a lock's file names, whether that one still has it or not; nobody where there is no such file."""
    try:
        descriptor = open_in_place(path, os.O_RDONLY)
    except FileNotFoundError:
        return Holder(None, None)
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def held(path: Path, holder: Holder, rule: str, how_to_take_over: str) -> InputError:
    """What the second one is answered with."""
    stop = "Wait for it to end, or stop that process"
    gone = f"; if nothing runs there any more: {how_to_take_over}"
    return InputError(
        rule,
        value=f"a second one; {holder} holds it",
        where=path,
        repair=stop + ("." if holder.is_alive_here else gone),
    )


def lock_now(descriptor: int) -> bool:
    """Take an exclusive lock on an open file; False if somebody else has it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> Holder:
    try:
        values = json.loads(os.pread(descriptor, _MOST_BYTES, 0))
        pid, host = int(values["pid"]), str(values["host"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        # Empty after a clean release; half-written when the holder died that very moment.
        return Holder(None, None)
    return Holder(pid if 0 < pid <= _LARGEST_PID else None, host)


def _write(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
