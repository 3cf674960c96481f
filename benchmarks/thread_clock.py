"""What a call takes of the time of this thread: waiting for a busy core is not counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


def milliseconds(run: Callable[[], object]) -> float:
    """Of this thread."""
    start = time.thread_time()
    run()
    return (time.thread_time() - start) * 1e3


@contextmanager
def timed(module: nn.Module | None) -> Iterator[list[float]]:
    """The milliseconds of each call of a module meanwhile."""
    taken: list[float] = []
    if module is None:
        yield taken
        return
    started = [0.0]

    def before(*_: object) -> None:
        started[0] = time.thread_time()

    def after(*_: object) -> None:
        taken.append((time.thread_time() - started[0]) * 1e3)

    handles = module.register_forward_pre_hook(before), module.register_forward_hook(after)
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()
