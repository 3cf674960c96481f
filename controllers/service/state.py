"""What a journal implies: the state of a run as a fold over its events.

**Events.** Every line of ``journal.jsonl`` has ``event``, ``time`` (seconds since the epoch: a stamp, nothing is
counted by it), ``at`` (seconds since the zero of its session, see :mod:`controllers.service.run_time`; older events
have none) and ``stage`` (None outside of stages); what chains the lines is told in
:mod:`controllers.service.journal_lines`. *Candidate* below means the keys ``id, architecture, hash, seed, widths,
threshold, overrides``: with them a line says enough for ``top10.json`` and the plots without being joined to another.

- ``run_start``: format, session, pid, host, boot, zero (see above), dropped, plan, recipe (resolved, as plain values,
  without what a resumed run may change and without paths; None, or missing in older journals: not known),
  space {name, version, variant}, stages, fingerprint (of the proxy task: runs with the same one measure the same).
- ``run_resume``: session, pid, host, boot, zero, dropped (what stood in the last line and could not be read {line,
  bytes, torn}; None: nothing), events (known before), pending (ids), snapshot (the file used; None:
  replayed from the start of the stage), diverged (the controller did not repeat the journal, see
  :mod:`controllers.service.resume`), passed_over (later snapshots that are damaged or gone, with the reason).
- ``stage_start``: free, fixed (each part as it is fixed, those of the best architecture too), widths,
  overrides, seed, bounds {candidates, seconds}: what the run has spent when this stage ends.
- ``proposal``: candidate, slot, proposal (the controller's own number).
- ``retry``: id, slot, reason, cost, seconds. A try failed for a reason that may be the machine's (its worker died, was
  out of memory, hung ...): the candidate stays pending, for one more try with the same id and seed.
- ``reassign``: id, slot, reason. A pending candidate is handed out again.
- ``halfway``: id, slot, reward.
- ``completion``: candidate, slot, reward, halfway, metrics, cost, seconds; where the run has a cost target also
  penalty: what controller and rankings take off reward and half-way reward (:func:`controllers.costs.objective`).
- ``stop``: candidate, slot, halfway, metrics, cost, seconds, perhaps penalty. Never in ``top10.json``,
  answers no duplicate.
- ``failure``: candidate, slot, reason, transient (the last try's reason may be the machine's), retried, metrics,
  cost, seconds.
- ``rejection``: candidate, slot, reason (the limits that it exceeds), cost, seconds, observed (the reward that the
  controller saw of it; None: it was forgotten). Not counted in the budget.
- ``replay``: proposal, architecture, hash, of (id), reward. A duplicate that was answered from the journal.
- ``redraw``: proposal, architecture, hash, reason (``pending``, ``failed`` or ``rejected``: what it equals).
- ``external``: architecture, reward, and of a warm start also run and of (the other run and its candidate's id).
  Observed from outside.
- ``warm_start``: evaluations (how many ``external`` ones above this line are its), skipped (for each other run that
  gave none, why).
- ``update``: diagnostics. The controller has learned.
- ``snapshot``: file, sha256. The controller's state after everything above this line.
- ``setup_failure``: slot, error.
- ``selection``: id, reward, hash, architecture, scores (by hash), seconds. The stage's best was named from
  outside (by full training, say); the seconds do not count as the run's.
- ``stage_end``: reason (``budget``, ``converged`` or ``rejected``: too many in a row), best {id, reward (less its
  penalty), hash, architecture}.
- ``pause``: reason (``paused``), error, failed (ids), common (the most frequent reason), shared (choices of theirs
  that others have not made). Most candidates fail: nothing is handed out until the run is resumed.
- ``run_end``: reason (``budget`` or ``error``), error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controllers.base import Candidate
from controllers.costs import objective
from controllers.service.answers import Best, RunStatus
from controllers.service.candidate_events import candidate_from
from controllers.service.journal import Event
from controllers.service.plan import SearchPlan
from controllers.service.run_time import RunTime
from controllers.service.stage_state import StageState
from search_spaces.base import Architecture, Part, SearchSpace, Stage

EVENTS = frozenset(
    {"run_start", "run_resume", "stage_start", "stage_end", "run_end", "setup_failure", "snapshot", "update"}
    | {"proposal", "reassign", "halfway", "completion", "stop", "failure", "replay", "redraw", "external"}
    | {"selection", "retry", "pause", "rejection", "warm_start"}
)

# Of this many finished candidates more than half must not have failed (controllers.service.pause).
WINDOW = 20


@dataclass
class Pending:
    """A candidate that was handed out and has not come back.

    ``slot``: its owner, None when it has yet to be handed out again. ``since``: of the last hand-out, in seconds of
    the run's work; ``retried``: a try has failed below this driver.
    """

    candidate: Candidate
    slot: int | None
    since: float
    retried: bool = False


class Outcome(NamedTuple):
    """How one of the last candidates ended; ``failure``: its reason, None when it did not fail."""

    id: int
    architecture: Architecture
    failure: str | None


class RunState:
    """Counts, pending candidates, what is known; ``apply`` takes the events in order, and nothing else
    changes it."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.stage: StageState | None = None
        self.stages_begun = 0
        self.pending: dict[int, Pending] = {}
        self.best_parts: dict[str, Part] = {}
        self.best: Best | None = None
        self.empty_stage: StageState | None = None
        self.next_id = 0
        self.completed = self.stopped = self.failed = self.rejected = self.replayed = self.redrawn = 0
        self.last_failure: str | None = None
        self.recent: deque[Outcome] = deque(maxlen=WINDOW)
        self.setup_failures = 0
        self.session: str | None = None
        self.ended: Event | None = None
        self.update: dict[str, float] = {}
        self.time = RunTime()

    @property
    def counted(self) -> int:
        """Candidates that the budget counts."""
        return self.completed + self.stopped + self.failed

    def elapsed(self, now: float) -> float:
        """Seconds that count as the run's, up to ``now`` (seconds of its work)."""
        return self.time.counted(now)

    def status(self, plan: SearchPlan, stages: Sequence[Stage], now: float, events: int) -> RunStatus:
        """How the run stands at ``now`` (seconds of its work), after ``events`` events."""
        elapsed = self.elapsed(now if self.ended is None else self.time.seconds)
        return RunStatus(
            stage=self.stage.name if self.stage else None,
            stages=tuple(stage.name for stage in stages),
            completed=self.completed,
            stopped=self.stopped,
            failed=self.failed,
            rejected=self.rejected,
            replayed=self.replayed,
            redrawn=self.redrawn,
            pending=tuple(self.pending),
            best=self.best,
            candidates_left=None if plan.candidates is None else max(0, plan.candidates - self.counted),
            seconds_left=None if plan.seconds is None else max(0.0, plan.seconds - elapsed),
            elapsed=elapsed,
            finished=self.ended is not None,
            error=self.ended["error"] if self.ended else None,
            events=events,
        )

    def apply(self, event: Event) -> None:
        """Take one event."""
        kind = event["event"]
        if kind not in EVENTS:
            raise ValueError(f"an unknown event {kind!r}")
        self.time.take(event)
        getattr(self, f"_{kind}")(event)

    def _run_start(self, event: Event) -> None:
        self.session = event["session"]

    def _run_resume(self, event: Event) -> None:
        self.ended = None
        if event["session"] != self.session:
            # Another driver: its slots are new, so nobody owns what is pending, and nobody has failed yet.
            self.session = event["session"]
            self.setup_failures = 0
            self.recent.clear()
            for pending in self.pending.values():
                pending.slot, pending.retried = None, False

    def _stage_start(self, event: Event) -> None:
        self.stage = StageState(event["stage"])
        self.stages_begun += 1

    def _stage_end(self, event: Event) -> None:
        assert self.stage is not None
        if self.stage.best is None:
            self.empty_stage = self.stage
        else:
            self.best_parts.update(self.stage.best.architecture.parts)
        self.stage = None

    def _selection(self, event: Event) -> None:
        stage = self._stage_now()
        stage.best, stage.selected = stage.known[event["hash"]], True

    def _run_end(self, event: Event) -> None:
        self.ended = event

    def _pause(self, event: Event) -> None:
        self.ended = event

    def _proposal(self, event: Event) -> None:
        candidate = candidate_from(event, self.space)
        self.pending[candidate.id] = Pending(candidate, event["slot"], self.time.seconds)
        self.next_id = candidate.id + 1
        self._stage_now().replays_in_a_row = 0

    def _retry(self, event: Event) -> None:
        pending = self.pending[event["id"]]
        pending.slot, pending.retried = None, True
        self._stage_now().note_cost(pending.candidate.hash, event["cost"])

    def _reassign(self, event: Event) -> None:
        pending = self.pending[event["id"]]
        pending.slot, pending.since = event["slot"], self.time.seconds

    def _completion(self, event: Event) -> None:
        candidate = self._finish(event)
        self.completed += 1
        stage, reward = self._stage_now(), objective(event)
        measured = Best(candidate.id, candidate.stage, candidate.architecture, candidate.hash, reward)
        stage.known[candidate.hash] = measured
        if event["halfway"] is not None:
            stage.halfway.append(event["halfway"])
        if stage.best is None or reward > stage.best.reward:
            stage.best = self.best = measured
        stage.rejections.learnt(reward)

    def _stop(self, event: Event) -> None:
        self._finish(event)
        self.stopped += 1
        self._stage_now().halfway.append(event["halfway"])
        self._stage_now().rejections.learnt(objective(event))

    def _failure(self, event: Event) -> None:
        candidate = self._take(event)
        self._stage_now().rejections.kept()
        self.failed += 1
        self.last_failure = event["reason"]
        self.recent.append(Outcome(candidate.id, candidate.architecture, event["reason"]))
        stage = self._stage_now()
        # Twice the machine may have been at fault; whoever fails again as another candidate is not drawn any more.
        innocent = event.get("transient", False) and candidate.hash not in stage.suspect
        (stage.suspect if innocent else stage.failed).add(candidate.hash)

    def _rejection(self, event: Event) -> None:
        self._take(event)
        self.setup_failures = 0
        self.rejected += 1
        self._stage_now().rejections.reject(event)

    def _replay(self, event: Event) -> None:
        self.replayed += 1
        self._stage_now().replays_in_a_row += 1

    def _redraw(self, event: Event) -> None:
        self.redrawn += 1
        self._stage_now().replays_in_a_row += 1

    def _setup_failure(self, event: Event) -> None:
        self.setup_failures += 1

    def _update(self, event: Event) -> None:
        self.update = event["diagnostics"]

    def _halfway(self, event: Event) -> None:
        """For the live views only: the result carries the half-way reward again."""

    def _external(self, event: Event) -> None:
        stage = self._stage_now()
        stage.rejections.learnt(event["reward"])
        if "run" in event:
            stage.externals.add((event["run"], event["of"]))

    def _warm_start(self, event: Event) -> None:
        self._stage_now().warm = True

    def _snapshot(self, event: Event) -> None:
        """Read on resume only."""

    def _finish(self, event: Event) -> Candidate:
        self.setup_failures = 0
        self._stage_now().rejections.kept()
        candidate = self._take(event)
        self.recent.append(Outcome(candidate.id, candidate.architecture, None))
        return candidate

    def _take(self, event: Event) -> Candidate:
        """The pending candidate that an event ends, with what was measured of it."""
        candidate = self.pending.pop(event["id"]).candidate
        self._stage_now().note_cost(candidate.hash, event["cost"])
        return candidate

    def _stage_now(self) -> StageState:
        assert self.stage is not None
        return self.stage
