"""Ask and tell around one controller, with a journal: the one place that knows how a search stands.

The events that it writes are told in :mod:`controllers.service.state`.

**Determinism.** The state of service and controller is a function of the run's seed and the events in order;
resuming folds the journal. A candidate's seed derives from the run's seed and the canonical hash alone.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from controllers.base import Candidate, Result
from controllers.costs import objective
from controllers.service.answers import Answer, Finished, RunStatus, Wait
from controllers.service.candidate_events import candidate_to, summary
from controllers.service.hand_out import lost_tries, without_owner
from controllers.service.journal import Event
from controllers.service.measured import defect, finite_values, number
from controllers.service.opening import Opening, open_run
from controllers.service.pause import most_fail, pause_values
from controllers.service.plan import SearchPlan
from controllers.service.proposing import draw_candidate
from controllers.service.record import RunRecord
from controllers.service.resume import ControllerFactory
from controllers.service.stage_rules import StageRules
from controllers.service.staging import end_stage, start_stage, warm_up
from controllers.service.state import Pending, RunState
from controllers.service.warm_start import WarmStart
from search_spaces.base import Architecture, SearchSpace


class ControllerService:
    """One search run. On a folder that holds a journal it goes on where that ends.

    Calls come one at a time (a Ray actor or a loop in the process).

    Args:
        folder: of the run: journal and snapshots.
        space: the search space; its stages are run in order.
        controller_factory: makes each stage's controller from its decisions and a seed.
        plan: budget and terms.
        session: names the driver. A service that was restarted below the same driver gets the same name, and
            then pending candidates stay with the slots that train them; with a new name they are handed out
            first.
        begin: the run is a new one: a journal that this driver did not begin is refused.
        recipe: what the run is searched by, as plain values, for the journal; None: not known.
        fingerprint: of the proxy task, for the journal.
        warm_start: what controllers learn from before their first proposal.
        clock: monotonic, in seconds.

    Raises:
        InputError: the run has another writer; its journal is damaged, of another driver's new run, or of another
            recipe, space, seed, format or fingerprint.
    """

    def __init__(
        self,
        folder: str | Path,
        space: SearchSpace,
        controller_factory: ControllerFactory,
        plan: SearchPlan,
        *,
        session: str | None = None,
        begin: bool = False,
        recipe: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
        warm_start: WarmStart | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.space, self.plan = space, plan
        self.stages = space.stages()
        self._rules = StageRules(plan, self.stages)
        self._factory, self._warm_start = controller_factory, warm_start
        self._run = RunRecord(Path(folder), space, plan.snapshot_every, clock)
        opening = Opening(session or uuid.uuid4().hex, begin, recipe, fingerprint)
        try:
            open_run(self._run, space, plan, controller_factory, opening)
        except BaseException:
            self._run.close()
            raise

    def ask(self, slot: int) -> Answer:
        """What ``slot`` shall do next.

        A slot that owns a pending candidate has lost it: its worker died. That try is given up, as is every one
        past its time limit; after its first a candidate is tried once more. Candidates without an owner (of a
        try that was given up, or of an interrupted run) are handed out first, then a new proposal is made.
        """
        if self._state.ended is None:
            limit, now = self.plan.candidate_time_limit, self._run.now()
            for lost in lost_tries(self._state.pending, slot, limit, now):
                self._try_failed(lost.id, lost.reason, True, {"slot": lost.slot})
        while self._state.ended is None:
            answer = self._next(slot)
            if answer is not None:
                self._run.commit()
                return self._with_latency(answer) if isinstance(answer, Candidate) else answer
        self._run.commit()
        return Finished(self._state.ended["reason"], self._state.ended["error"])

    def tell(self, slot: int, id: int, result: Result) -> None:
        """The result of a candidate. Telling again, or after it was failed, is without effect.

        Raises:
            ValueError: the run never proposed ``id``.
        """
        pending = self._known_id(id)
        if pending is None:
            return
        target = self.plan.cost_target
        failure = defect(result, target)
        measured = {
            "slot": slot,
            "metrics": finite_values(result.metrics),
            "cost": finite_values(result.cost),
            "seconds": number(result.seconds) or 0.0,
        }
        if failure is not None:
            # Told again, or given up already: the machine's failures count once a try.
            if result.transient and pending.slot != slot:
                return
            self._try_failed(id, failure, result.transient, measured)
        elif result.status == "rejected":
            self._reject(id, result.reason or "no reason given", measured)
        else:
            rewards = {"halfway": number(result.halfway)}
            if target is not None:
                rewards["penalty"] = target.penalty(result.cost)
            if result.status == "completed":
                self._finish(id, "completion", {**measured, "reward": number(result.reward), **rewards})
            else:
                self._finish(id, "stop", {**measured, **rewards})
        self._run.commit()

    def halfway(self, slot: int, id: int, reward: float) -> None:
        """A half-way reward, for the live views; :meth:`tell` carries it again."""
        if self._known_id(id) is not None and math.isfinite(reward):
            self._run.record("halfway", id=id, slot=slot, reward=float(reward))
            self._run.commit()

    def report_setup_failure(self, slot: int, error: str) -> None:
        """A worker could not be set up; too many in a row end the run with that error."""
        if self._state.ended is not None:
            return
        self._run.record("setup_failure", slot=slot, error=error)
        if self._state.setup_failures >= self.plan.max_setup_failures:
            count = self._state.setup_failures
            message = f"{count} times in a row a worker could not be set up, the last: {error}"
            self._run.record("run_end", reason="error", error=message)
        self._run.commit()

    def slot_died(self, slot: int, when: float) -> bool:
        """The worker of ``slot`` died: what it was at is given up now, for whoever asks next. Where its machine has
        gone, the slot itself may never ask again.

        Args:
            slot: whose process is gone.
            when: the reading of this machine's monotonic clock at which that was found out; what the slot was given
                later is with its next process.

        Returns:
            Whether it was at anything.
        """
        found = self._run.when(when)
        held = [
            id
            for id, pending in self._state.pending.items()
            if pending.slot == slot and pending.since <= found and self._state.ended is None
        ]
        for id in held:
            self._try_failed(id, "its worker's process died", True, {"slot": slot})
        self._run.commit()
        return bool(held)

    def select(self, stage: str, hash: str, scores: Mapping[str, float], seconds: float) -> None:
        """Name the architecture of ``stage`` that later stages build on; ``status().selecting`` asks for it.

        Args:
            stage: that waits.
            hash: of one of its completed candidates.
            scores: by hash, what the choice was made by.
            seconds: that choosing took; they do not count as the run's.

        Raises:
            ValueError: the stage does not wait, or has no such candidate.
        """
        if (
            not self._rules.selecting(self._state, self._run.now())
            or self._state.stage is None
            or self._state.stage.name != stage
        ):
            raise ValueError(f"the stage {stage} does not wait for a selection")
        chosen = self._state.stage.known.get(hash)
        if chosen is None:
            raise ValueError(f"no completed candidate of the stage {stage} has the hash {hash}")
        self._run.record("selection", **summary(chosen), scores=finite_values(scores), seconds=seconds)
        self._run.commit()

    def observe_external(self, architecture: Architecture, reward: float) -> None:
        """Tell the stage's controller a reward that was not proposed here."""
        if self._run.learner is None or not math.isfinite(reward):
            return
        self._run.record("external", architecture=architecture.to_dict(), reward=reward)
        self._run.learner.observe_external(architecture, reward)
        self._run.record_update()
        self._run.commit()

    def events_since(self, index: int) -> list[Event]:
        """Events from number ``index`` on (the first is 0): poll with the number of events seen so far."""
        return self._run.journal.since(index)

    def status(self) -> RunStatus:
        """How the run stands."""
        status = self._state.status(self.plan, self.stages, self._run.now(), len(self._run.journal))
        return replace(status, selecting=self._rules.selecting(self._state, self._run.now()))

    def close(self) -> None:
        """Give the journal back. The run may be resumed."""
        self._run.close()

    def _next(self, slot: int) -> Candidate | Wait | None:
        """One step towards the answer for ``slot``; None when another one is needed."""
        state, run = self._state, self._run
        if state.stage is None:
            start_stage(run, self.space, self.plan, self._factory, self._rules.bounds)
            return None
        if self._warm_start is not None and not state.stage.warm:
            warm_up(run, self.space, self._warm_start)
        again, over = without_owner(state.pending), self._rules.over(state, run.now())
        if again is None and over is not None:
            if state.pending or self._rules.needs_selection(state):
                return Wait()
            end_stage(run, over)
            return None
        if most_fail(state.recent):
            run.record("pause", **pause_values(state, self.space))
            return None
        if again is not None:
            reason = "tried once more" if again.retried else "the run was resumed"
            run.record("reassign", id=again.candidate.id, slot=slot, reason=reason)
            return again.candidate
        return draw_candidate(run, self.space, self.plan, slot)

    def _with_latency(self, candidate: Candidate) -> Candidate:
        """With what was measured of the same architecture before it was stopped or lost."""
        assert self._state.stage is not None
        return replace(candidate, latency_ms=self._state.stage.latency_ms.get(candidate.hash))

    # Learning

    def _known_id(self, id: int) -> Pending | None:
        if not 0 <= id < self._state.next_id:
            raise ValueError(f"a result must be of one of {self._state.next_id} candidates, got id {id}")
        return self._state.pending.get(id)

    def _finish(self, id: int, event: Literal["completion", "stop"], measured: dict[str, Any]) -> None:
        candidate = self._state.pending[id].candidate
        self._run.record(event, **candidate_to(candidate), **measured)
        assert self._run.learner is not None
        self._run.learner.observe(id, candidate.architecture, objective({"event": event, **measured}))
        self._run.record_update()

    def _reject(self, id: int, reason: str, measured: Mapping[str, Any]) -> None:
        stage, learner = self._state.stage, self._run.learner
        assert stage is not None
        assert learner is not None
        candidate = self._state.pending[id].candidate
        observed = stage.rejections.reward(learner.rewards_per_update())
        spent = {key: measured[key] for key in ("slot", "cost", "seconds")}
        self._run.record("rejection", **candidate_to(candidate), reason=reason, observed=observed, **spent)
        if observed is None:
            learner.fail(id)
        else:
            learner.observe(id, candidate.architecture, observed)
            self._run.record_update()

    def _try_failed(self, id: int, reason: str, transient: bool, measured: dict[str, Any]) -> None:
        pending = self._state.pending[id]
        measured = {"metrics": {}, "cost": {}, "seconds": 0.0, **measured}
        if transient and not pending.retried:
            spent = {key: measured[key] for key in ("slot", "cost", "seconds")}
            self._run.record("retry", id=id, reason=reason, **spent)
            return
        told = {"reason": reason, "transient": transient, "retried": pending.retried}
        self._run.record("failure", **candidate_to(pending.candidate), **told, **measured)
        assert self._run.learner is not None
        self._run.learner.fail(id)

    @property
    def _state(self) -> RunState:
        return self._run.state
