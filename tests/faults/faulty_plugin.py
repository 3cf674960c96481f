"""A proxy task in which chosen candidates go wrong, and which notes every evaluation that it begins or ends.

Given to the command as a user's plugin would be: ``faulty_plugin.py:FaultyProxy``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from controllers.base import Candidate, Result
from proxy_tasks.base import Progress, ProxyTask, TaskContext, no_progress

RELEASE = "release"


class FaultyProxyRecipe(BaseModel):
    """``seconds`` a candidate; what goes wrong, by candidate id. One that is held goes on once there is a file
    ``release`` beside the file of notes."""

    model_config = ConfigDict(extra="forbid")

    notes: Path
    seconds: float = 0.0
    nan: tuple[int, ...] = ()
    inf: tuple[int, ...] = ()
    out_of_memory: tuple[int, ...] = ()
    raises: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()
    crashes: tuple[int, ...] = ()
    held: tuple[int, ...] = ()


class FaultyProxy(ProxyTask):
    """The reward is a function of the candidate's seed, which follows from the architecture."""

    Recipe = FaultyProxyRecipe

    def __init__(self, recipe: BaseModel, context: TaskContext) -> None:
        assert isinstance(recipe, FaultyProxyRecipe)
        self._recipe = recipe

    def prepare(self, on_progress: Progress = no_progress) -> None:
        self._recipe.notes.parent.mkdir(parents=True, exist_ok=True)

    def evaluate(self, candidate: Candidate, on_progress: Progress = no_progress) -> Result:
        self._note("begin", candidate)
        recipe, id = self._recipe, candidate.id
        time.sleep(recipe.seconds)
        if id in recipe.raises:
            raise RuntimeError("injected")
        if id in recipe.out_of_memory:
            # More than any address space has: the allocator itself refuses.
            bytearray(2**62)
        if id in recipe.hangs:
            time.sleep(3600)
        while id in recipe.held and not self._recipe.notes.with_name(RELEASE).exists():
            time.sleep(0.02)
        if id in recipe.crashes:
            os.kill(os.getpid(), signal.SIGSEGV)
        reward = (candidate.seed % 9973) / 9973
        if id in recipe.nan:
            reward = float("nan")
        if id in recipe.inf:
            reward = float("inf")
        self._note("end", candidate)
        return Result("completed", reward, reward - 0.1, {"loss": 1 - reward}, {"flops": 1e6, "params": 1e3})

    def fingerprint(self) -> str:
        return hashlib.sha256(b"faulty").hexdigest()

    def description(self) -> dict[str, Any]:
        data = {"fingerprint": self.fingerprint(), "classes": ["toy"], "normalisation": "imagenet"}
        return {"data": data, "weights": {"backbone": None}}

    def _note(self, what: str, candidate: Candidate) -> None:
        """One line, written at once: lines of several processes do not mix."""
        note = {"what": what, "id": candidate.id, "stage": candidate.stage, "hash": candidate.hash}
        now = time.monotonic()
        line = json.dumps({**note, "seed": candidate.seed, "pid": os.getpid(), "reading": now}) + "\n"
        descriptor = os.open(self._recipe.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def read_notes(path: Path) -> list[dict[str, Any]]:
    """What every worker noted, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()]
