"""The numbers of the live views, folded from the journal's events in order."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controllers.costs import objective
from controllers.service.journal import Event
from controllers.service.run_time import RunTime
from search_spaces.base import ORIGINAL, SearchSpace, parse_architecture

WINDOW = 30
SHARE_WINDOW = 50


@dataclass(frozen=True)
class Running:
    """A candidate that a slot trains now; ``since``: of its hand-out, in seconds of the run's work."""

    id: int
    slot: int
    since: float


class SearchProgress:
    """How a run stands. Rewards are of the current stage: those of different stages are not comparable.

    Where a method asks for ``now``, it is a reading of this machine's monotonic clock (:func:`time.monotonic`): a view
    is shown where the search runs.

    Attributes:
        completed, stopped, failed, rejected, replayed, redrawn: counts of the whole run.
        best, best_id: of the current stage (or the one that ended last); ``best_penalty``: what its cost has taken off.
        last_reward: of the last completed candidate, or the half-way reward of a stopped one.
        last_rejection: which limit was exceeded.
        warm: evaluations of other runs that the stage's controller has learnt from; ``not_warm``: why runs gave none.
        running: by slot.
        diagnostics: of the controller's last update.
        last_failure: reason of the last failure.
        converged: stages that ended because only known architectures were proposed; ``over_limits``: because too many
            in a row were rejected.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.stages: tuple[str, ...] = ()
        self.stage: str | None = None
        self.completed = self.stopped = self.failed = self.rejected = self.replayed = self.redrawn = 0
        self.best: float | None = None
        self.best_id: int | None = None
        self.best_penalty = 0.0
        self.last_reward: float | None = None
        self.last_seconds = 0.0
        self.last_failure: str | None = None
        self.last_rejection: str | None = None
        self.warm = 0
        self.not_warm: list[str] = []
        self.running: dict[int, Running] = {}
        self.diagnostics: dict[str, float] = {}
        self.candidate_seconds = 0.0
        self.finished = False
        self.error: str | None = None
        self.converged: list[str] = []
        self.over_limits: list[str] = []
        self.plan: Mapping[str, Any] = {}
        self._rewards: deque[float] = deque(maxlen=WINDOW)
        self._free: tuple[str, ...] = ()
        self._proposed: deque[Counter[tuple[str, str]]] = deque(maxlen=SHARE_WINDOW)
        self._time = RunTime()
        self._session_done = 0

    @property
    def done(self) -> int:
        """Candidates that the budget counts."""
        return self.completed + self.stopped + self.failed

    @property
    def moving_average(self) -> float | None:
        """Mean reward of the last 30 completed candidates of the stage."""
        return math.fsum(self._rewards) / len(self._rewards) if self._rewards else None

    def elapsed(self, now: float) -> float:
        """Seconds that count as the run's."""
        return self._time.counted(self._seconds(now))

    def candidates_per_hour(self, now: float) -> float | None:
        """Since this session began: a resumed run may have another number of workers."""
        seconds = max(1e-9, self._seconds(now) - self._time.began)
        return 3600.0 * self._session_done / seconds if self._session_done else None

    def running_for(self, slot: int, now: float) -> float:
        """Seconds since the candidate of ``slot`` was handed out."""
        return max(0.0, self._seconds(now) - self.running[slot].since)

    def seconds_left(self, now: float) -> float | None:
        """Of the budget; None while it cannot be known."""
        if self.finished:
            return 0.0
        estimates = []
        if self.plan.get("seconds"):
            estimates.append(max(0.0, self.plan["seconds"] - self.elapsed(now)))
        rate = self.candidates_per_hour(now)
        if self.plan.get("candidates") and rate:
            estimates.append(max(0.0, self.plan["candidates"] - self.done) * 3600.0 / rate)
        return min(estimates) if estimates else None

    def fraction(self, now: float) -> float:
        """Of the budget that is spent, in [0, 1]."""
        spent = [0.0]
        if self.plan.get("candidates"):
            spent.append(self.done / self.plan["candidates"])
        if self.plan.get("seconds"):
            spent.append(self.elapsed(now) / self.plan["seconds"])
        return min(1.0, max(spent))

    def choice_shares(self) -> dict[tuple[str, str], float]:
        """Share of each (kind, choice) among the decisions of that kind, over the stage's last 50 proposals.

        Every choice of a kind that was decided at all is there, those never taken with 0.
        """
        total: Counter[tuple[str, str]] = Counter()
        for counts in self._proposed:
            total.update(counts)
        sums: Counter[str] = Counter()
        for (kind, _), count in total.items():
            sums[kind] += count
        return {key: count / sums[key[0]] for key, count in sorted(total.items()) if sums[key[0]]}

    def apply(self, event: Event) -> None:
        """Take one event."""
        if self._time.take(event):
            self._session_done = 0
        handler = getattr(self, f"_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _seconds(self, now: float) -> float:
        """Seconds that the run was at work."""
        return self._time.seconds if self.finished else self._time.at(now)

    def _run_start(self, event: Event) -> None:
        self.plan = event["plan"]
        self.stages = tuple(stage["name"] for stage in event["stages"])

    def _run_resume(self, event: Event) -> None:
        self.finished, self.error = False, None
        self.running.clear()

    def _run_end(self, event: Event) -> None:
        self.finished, self.error = True, event["error"]
        self.running.clear()

    # The journal goes on after a resumption, as after any end with an error.
    _pause = _run_end

    def _stage_start(self, event: Event) -> None:
        self.stage, self._free = event["stage"], tuple(event["free"])
        self.best = self.best_id = None
        self.best_penalty, self.warm = 0.0, 0
        self._rewards.clear()
        self._proposed.clear()

    def _stage_end(self, event: Event) -> None:
        if event["reason"] == "converged":
            self.converged.append(event["stage"])
        if event["reason"] == "rejected":
            self.over_limits.append(event["stage"])

    def _proposal(self, event: Event) -> None:
        self.running[event["slot"]] = Running(event["id"], event["slot"], self._time.seconds)
        self._proposed.append(self._choices(event))

    def _reassign(self, event: Event) -> None:
        self._forget(event["id"])
        self.running[event["slot"]] = Running(event["id"], event["slot"], self._time.seconds)

    def _retry(self, event: Event) -> None:
        self._forget(event["id"])
        self.candidate_seconds += event["seconds"]
        self.last_failure = f"candidate {event['id']}, tried once more: {event['reason']}"

    def _completion(self, event: Event) -> None:
        self._finish(event)
        self.completed += 1
        reward = self.last_reward = objective(event)
        self._rewards.append(reward)
        if self.best is None or reward > self.best:
            self.best, self.best_id, self.best_penalty = reward, event["id"], event.get("penalty", 0.0)

    def _stop(self, event: Event) -> None:
        self._finish(event)
        self.stopped += 1
        self.last_reward = objective(event)

    def _failure(self, event: Event) -> None:
        self._finish(event)
        self.failed += 1
        self.last_failure = f"candidate {event['id']}: {event['reason']}"

    def _rejection(self, event: Event) -> None:
        self._forget(event["id"])
        self.rejected += 1
        self.candidate_seconds += event["seconds"]
        self.last_rejection = f"candidate {event['id']}: {event['reason']}"

    def _warm_start(self, event: Event) -> None:
        self.warm = event["evaluations"]
        self.not_warm = [f"{event['stage']}: {reason}" for reason in event["skipped"].values()]

    def _setup_failure(self, event: Event) -> None:
        self.last_failure = f"worker {event['slot']} could not be set up: {event['error']}"

    def _replay(self, event: Event) -> None:
        self.replayed += 1

    def _redraw(self, event: Event) -> None:
        self.redrawn += 1

    def _update(self, event: Event) -> None:
        self.diagnostics = {name: value for name, value in event["diagnostics"].items() if value is not None}

    def _finish(self, event: Event) -> None:
        self._forget(event["id"])
        self._session_done += 1
        self.last_seconds = event["seconds"]
        self.candidate_seconds += event["seconds"]

    def _forget(self, id: int) -> None:
        self.running = {slot: running for slot, running in self.running.items() if running.id != id}

    def _choices(self, event: Event) -> Counter[tuple[str, str]]:
        """How often each (kind, choice) was taken in the parts that the stage searches."""
        counts: Counter[tuple[str, str]] = Counter()
        where = f"the journal, candidate {event['id']}"
        architecture = parse_architecture(event["architecture"], where=where)
        for part in self._free:
            tokens = architecture.parts[part]
            assert tokens != ORIGINAL
            for token, decision in zip(tokens, self._space.decisions(part), strict=True):
                for choice in decision.choices:
                    counts.setdefault((decision.kind, choice), 0)
                counts[decision.kind, decision.choices[int(token)]] += 1
        return counts
