"""A limit on this process's memory, so that a candidate which wants too much gets an error, not the machine."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasperc.errors import InputError

_STATUS = Path("/proc/self/status")
_GIB = 2**30


@contextmanager
def memory_limit(gib: float | None) -> Iterator[None]:
    """Hold the memory of this process at ``gib`` GiB; None: leave it alone.

    What is counted is the process's own: libraries, the mapped cache and Ray's shared store are not. The system
    limits memory as it is mapped (``RLIMIT_DATA``), so what is mapped and never touched, stacks of threads
    above all, is added to the limit. (``RLIMIT_AS`` would count shared mappings and the address space that
    CUDA reserves.) An allocation beyond it raises ``MemoryError``, in torch ``RuntimeError``.

    Raises:
        MemoryError: the process holds that much already.
    """
    if gib is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    room = room_below(gib)
    if room <= 0:
        raise MemoryError(
            f"the process holds {gib - room / _GIB:.2f} of its {gib:g} GiB before the candidate begins"
        )
    limit = _status()["VmData"] + room
    bounds = [bound for bound in (limit, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def room_below(gib: float) -> int:
    """Bytes that this process may still take below a limit of ``gib`` GiB.

    Raises:
        InputError: not on Linux.
    """
    return int(gib * _GIB) - _status()["RssAnon"]


def _status() -> dict[str, int]:
    """``RssAnon`` (own memory in use) and ``VmData`` (mapped for it), bytes."""
    if not _STATUS.exists():
        raise InputError(
            "a memory limit for workers needs Linux",
            value="no /proc",
            where="recipe key search.worker_memory_gib",
            repair="Leave the key out.",
        )
    text = _STATUS.read_text()
    return {name: 1024 * int(kib) for name, kib in re.findall(r"^(RssAnon|VmData):\s+(\d+) kB$", text, re.M)}
