"""What is known of a run, and the only way to change it: an event in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from controllers.service.journal import Event, Journal
from controllers.service.learner import Learner
from controllers.service.run_time import boot_id
from controllers.service.snapshot import write_snapshot
from controllers.service.state import RunState
from search_spaces.base import SearchSpace

JOURNAL = "journal.jsonl"


class RunRecord:
    """The journal, and beside it what its events imply: the run's state and the learner of its stage.

    :meth:`record` takes an event into the state at once; :meth:`commit` brings everything recorded since the
    last time to the disk, before anybody is answered.

    Args:
        folder: of the run: journal and snapshots.
        space: the search space.
        snapshot_every: events between two snapshots of the learner.
        clock: monotonic, in seconds.

    Attributes:
        learner: of the stage; None between stages. Whoever records an event tells it to the learner.

    Raises:
        InputError: the run has another writer, or its journal is damaged.
    """

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        snapshot_every: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self._clock = folder, clock
        self.journal = Journal(folder / JOURNAL)
        self.state = RunState(space)
        self.learner: Learner | None = None
        self.events_since_snapshot = 0
        self._snapshot_every = snapshot_every
        self._unwritten: list[Event] = []
        # Where the time of this session begins; None: the run has ended, and its time with it.
        self._zero: float | None = None

    def record_session(self, event: Literal["run_start", "run_resume"], session: str, **values: Any) -> None:
        """Record that a driver, or its restarted service, is at work from now on: see
        :mod:`controllers.service.run_time`."""
        boot = boot_id()
        self._zero = self.state.time.going_on(session, boot, self._clock())
        dropped = self.journal.dropped
        values["dropped"] = None if dropped is None else dropped._asdict()
        self.record(event, session=session, boot=boot, zero=self._zero, **values)

    def now(self) -> float:
        """Seconds that the run was at work."""
        return self.when(self._clock())

    def when(self, reading: float) -> float:
        """Seconds that the run was at work at a reading of this machine's monotonic clock."""
        return self.state.time.seconds if self._zero is None else self.state.time.at(reading)

    def record(self, event: str, **values: Any) -> None:
        """Take an event into the state."""
        assert self._zero is not None, "record_session() comes first"
        stage = self.state.stage.name if self.state.stage else None
        at = round(self._clock() - self._zero, 6)
        entry: Event = {"event": event, "time": time.time(), "at": at, "stage": stage, **values}
        self.state.apply(entry)
        self._unwritten.append(entry)

    def record_update(self) -> None:
        """Record what the learner says of itself, where that has changed."""
        assert self.learner is not None
        diagnostics = self.learner.diagnostics()
        if diagnostics and diagnostics != self.state.update:
            self.record("update", diagnostics=diagnostics)

    def commit(self) -> None:
        """Write what was recorded; from time to time a snapshot of the learner, too.

        Raises:
            InputError: the disk is full or gone.
            OSError: it is, for the snapshot alone: what was recorded is in the journal.
        """
        if not self._unwritten:
            return
        self.events_since_snapshot += len(self._unwritten)
        self._write()
        if self.events_since_snapshot >= self._snapshot_every and self.learner is not None:
            self.snapshot()
            self._write()

    def _write(self) -> None:
        events, self._unwritten = self._unwritten, []
        self.journal.append(*events)

    def snapshot(self) -> None:
        """Write the learner's state beside the journal, and record its file."""
        assert self.learner is not None
        number = len(self.journal) + len(self._unwritten)
        name, sha256 = write_snapshot(self.folder, number, self.learner.state_dict())
        self.record("snapshot", file=name, sha256=sha256)
        self.events_since_snapshot = 0

    def close(self) -> None:
        """Give the journal back."""
        self.journal.close()
