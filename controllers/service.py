"""Ask and tell around one controller, with a journal: the one place that knows how a search stands.

The events that it writes are told in :mod:`controllers.state`.

**Determinism.** The state of service and controller is a function of the run's seed and the events in order;
resuming folds the journal. A candidate's seed derives from the run's seed and the canonical hash alone.
"""

from __future__ import annotations

import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from controllers.answers import Answer, Finished, RunStatus, Wait
from controllers.base import Candidate, Controller, Proposal, Result
from controllers.early_stop import early_stop_threshold
from controllers.hand_out import candidate_again, lost_candidates
from controllers.journal import Event, Journal
from controllers.measured import defect, finite_values, number
from controllers.plan import SearchPlan
from controllers.resume import ControllerReplay, check_journal
from controllers.seeds import derive_seed
from controllers.snapshot import write_snapshot
from controllers.stage_rules import StageRules
from controllers.state import Pending, RunState, candidate_to, summary
from nasperc.errors import InputError
from search_spaces.base import Architecture, SearchSpace, TokenSpace

FORMAT = 1
JOURNAL = "journal.jsonl"

ControllerFactory = Callable[[TokenSpace, int], Controller]


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
        clock: seconds since the epoch.

    Raises:
        InputError: the run has another writer; its journal is damaged, or of another space, seed or format.
    """

    def __init__(
        self,
        folder: str | Path,
        space: SearchSpace,
        controller_factory: ControllerFactory,
        plan: SearchPlan,
        *,
        session: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.space, self.plan = Path(folder), space, plan
        self.stages = space.stages()
        self._rules = StageRules(plan, self.stages)
        self._factory, self._clock = controller_factory, clock
        self._journal = Journal(self.folder / JOURNAL)
        self._state = RunState(space)
        self._controller: Controller | None = None
        self._proposals: dict[int, int | None] = {}
        self._unwritten: list[Event] = []
        self._events_since_snapshot = 0
        try:
            self._open(session or uuid.uuid4().hex)
        except BaseException:
            self._journal.close()
            raise

    def ask(self, slot: int) -> Answer:
        """What ``slot`` shall do next.

        A slot that owns a pending candidate gets it back once; asking again fails it, since its worker has
        died twice. Then candidates without an owner (of an interrupted run) and those past their time limit
        are handed out, then a new proposal is made.
        """
        if self._state.ended is not None:
            return self._finished()
        candidate = self._hand_out_again(slot)
        if candidate is not None:
            self._commit()
            return candidate
        while self._state.ended is None:
            if self._state.stage is None:
                self._start_stage()
                continue
            reason = self._rules.over(self._state, self._clock())
            if reason is None:
                candidate = self._propose(slot)
                if candidate is None:
                    continue
                self._commit()
                return candidate
            if self._state.pending or self._rules.needs_selection(self._state):
                self._commit()
                return Wait()
            self._end_stage(reason)
        self._commit()
        return self._finished()

    def tell(self, slot: int, id: int, result: Result) -> None:
        """The result of a candidate. Telling again, or after it was failed, is without effect.

        Raises:
            ValueError: the run never proposed ``id``.
        """
        if self._known_id(id) is None:
            return
        failure = defect(result)
        measured = {
            "slot": slot,
            "metrics": finite_values(result.metrics),
            "cost": finite_values(result.cost),
            "seconds": number(result.seconds),
        }
        if failure is not None:
            self._fail(id, failure, measured)
        elif result.status == "completed":
            rewards = {"reward": number(result.reward), "halfway": number(result.halfway)}
            self._finish(id, "completion", {**measured, **rewards})
        else:
            self._finish(id, "stop", {**measured, "halfway": number(result.halfway)})
        self._commit()

    def halfway(self, slot: int, id: int, reward: float) -> None:
        """A half-way reward, for the live views; :meth:`tell` carries it again."""
        if self._known_id(id) is not None and math.isfinite(reward):
            self._record("halfway", id=id, slot=slot, reward=float(reward))
            self._commit()

    def report_setup_failure(self, slot: int, error: str) -> None:
        """A worker could not be set up; too many in a row end the run with that error."""
        if self._state.ended is not None:
            return
        self._record("setup_failure", slot=slot, error=error)
        if self._state.setup_failures >= self.plan.max_setup_failures:
            count = self._state.setup_failures
            message = f"{count} times in a row a worker could not be set up, the last: {error}"
            self._record("run_end", reason="error", error=message)
        self._commit()

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
            not self._rules.selecting(self._state, self._clock())
            or self._state.stage is None
            or self._state.stage.name != stage
        ):
            raise ValueError(f"the stage {stage} does not wait for a selection")
        chosen = self._state.stage.known.get(hash)
        if chosen is None:
            raise ValueError(f"no completed candidate of the stage {stage} has the hash {hash}")
        self._record("selection", **summary(chosen), scores=finite_values(scores), seconds=seconds)
        self._commit()

    def observe_external(self, architecture: Architecture, reward: float) -> None:
        """Tell the stage's controller a reward that was not proposed here."""
        if self._controller is None or not math.isfinite(reward):
            return
        self._record("external", architecture=architecture.to_dict(), reward=reward)
        self._controller.observe_external(architecture, reward)
        self._record_update()
        self._commit()

    def events_since(self, index: int) -> list[Event]:
        """Events from number ``index`` on (the first is 0): poll with the number of events seen so far."""
        return self._journal.since(index)

    def status(self) -> RunStatus:
        """How the run stands."""
        status = self._state.status(self.plan, self.stages, self._clock(), len(self._journal))
        return replace(status, selecting=self._rules.selecting(self._state, self._clock()))

    def close(self) -> None:
        """Give the journal back. The run may be resumed."""
        self._journal.close()

    # Opening and resuming

    def _open(self, session: str) -> None:
        events = self._journal.take_known()
        who = {"session": session, "pid": os.getpid(), "host": socket.gethostname()}
        if not events:
            self._record(
                "run_start",
                format=FORMAT,
                **who,
                plan=self.plan.model_dump(mode="json"),
                space={"name": self.space.name, "version": self.space.version, "variant": self.space.variant},
                stages=[asdict(stage) for stage in self.stages],
            )
            self._commit()
            return
        replay = ControllerReplay(self.folder, self.space, self.stages, self._factory)
        line = 1
        try:
            check_journal(events, self.space, self.plan, FORMAT, self._journal.path)
            for line, event in enumerate(events, start=1):  # noqa: B007 (told in the error)
                self._state.apply(event)
            self._controller, self._proposals = replay.run(events)
        except InputError:
            raise
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise InputError(
                "the events of a journal must make a run",
                value=f"{type(error).__name__}: {error}",
                where=f"{self._journal.path}, line {line}",
                repair="The journal was not written by this program: restore it.",
            ) from error
        self._events_since_snapshot = replay.events_since_snapshot
        ended = self._state.ended
        if ended is not None and (ended["error"] is None or self._state.session == session):
            return
        self._record(
            "run_resume",
            **who,
            events=len(events),
            pending=list(self._state.pending),
            snapshot=replay.snapshot,
            diverged=replay.diverged,
        )
        if self._controller is not None:
            self._record_update()
            if replay.diverged:
                self._snapshot()
        self._commit()

    # Proposing

    def _propose(self, slot: int) -> Candidate | None:
        """One draw: a candidate, or None when the draw was known, pending or failed."""
        assert self._controller is not None
        stage = self._state.stage
        assert stage is not None
        proposal = self._controller.propose()
        hash = self.space.hash(proposal.architecture)
        draw = {"proposal": proposal.id, "architecture": proposal.architecture.to_dict(), "hash": hash}
        if hash in stage.known:
            known = stage.known[hash]
            self._record("replay", **draw, of=known.id, reward=known.reward)
            self._controller.replayed(proposal.id, known.reward)
            return None
        pending = any(pending.candidate.hash == hash for pending in self._state.pending.values())
        if pending or hash in stage.failed:
            self._record("redraw", **draw, reason="pending" if pending else "failed")
            self._controller.fail(proposal.id)
            return None
        candidate = self._candidate(proposal, hash)
        self._record("proposal", **candidate_to(candidate), slot=slot, proposal=proposal.id)
        self._proposals[candidate.id] = proposal.id
        return candidate

    def _candidate(self, proposal: Proposal, hash: str) -> Candidate:
        state = self._state
        assert state.stage is not None
        stage = self.stages[state.stages_begun - 1]
        threshold = early_stop_threshold(
            state.stage.halfway, len(state.stage.known), self.plan.early_stop_k, self.plan.early_stop_minimum
        )
        return Candidate(
            id=state.next_id,
            stage=stage.name,
            architecture=proposal.architecture,
            widths=dict(stage.widths),
            hash=hash,
            seed=derive_seed(self.plan.seed, hash),
            threshold=threshold,
            overrides=dict(stage.overrides),
        )

    def _hand_out_again(self, slot: int) -> Candidate | None:
        pending, limit, now = self._state.pending, self.plan.candidate_time_limit, self._clock()
        for lost in lost_candidates(pending, slot, limit, now):
            self._fail(lost.id, lost.reason, {"slot": lost.slot})
        again = candidate_again(pending, slot, limit, now)
        if again is None:
            return None
        self._record("reassign", id=again.id, slot=slot, reason=again.reason)
        return pending[again.id].candidate

    # Learning

    def _known_id(self, id: int) -> Pending | None:
        if not 0 <= id < self._state.next_id:
            raise ValueError(f"a result must be of one of {self._state.next_id} candidates, got id {id}")
        return self._state.pending.get(id)

    def _finish(self, id: int, event: Literal["completion", "stop"], measured: dict[str, Any]) -> None:
        candidate = self._state.pending[id].candidate
        self._record(event, **candidate_to(candidate), **measured)
        assert self._controller is not None
        reward = measured["reward" if event == "completion" else "halfway"]
        proposal = self._proposals.pop(id)
        if proposal is None:
            self._controller.observe_external(candidate.architecture, reward)
        else:
            self._controller.observe(proposal, reward)
        self._record_update()

    def _fail(self, id: int, reason: str, measured: dict[str, Any]) -> None:
        nothing = {"metrics": {}, "cost": {}, "seconds": 0.0}
        self._record(
            "failure",
            **candidate_to(self._state.pending[id].candidate),
            reason=reason,
            **{**nothing, **measured},
        )
        assert self._controller is not None
        proposal = self._proposals.pop(id)
        if proposal is not None:
            self._controller.fail(proposal)

    def _record_update(self) -> None:
        assert self._controller is not None
        diagnostics = finite_values(self._controller.diagnostics())
        if diagnostics and diagnostics != self._state.update:
            self._record("update", diagnostics=diagnostics)

    # Stages

    def _start_stage(self) -> None:
        index = self._state.stages_begun
        if self._state.empty_stage is not None:
            message = (
                f"no candidate of the stage {self._state.empty_stage} was trained to its end "
                f"({self._state.failed} failed and {self._state.stopped} were stopped in this run); "
                f"last failure: {self._state.last_failure}"
            )
            self._record("run_end", reason="error", error=message)
            return
        if index == len(self.stages):
            self._record("run_end", reason="budget", error=None)
            return
        stage = self.stages[index]
        tokens = TokenSpace(self.space, stage, self._state.best_parts)
        seed = derive_seed(self.plan.seed, "controller", stage.name)
        self._controller, self._proposals = self._factory(tokens, seed), {}
        self._record(
            "stage_start",
            stage=stage.name,
            free=list(stage.free),
            fixed=dict(tokens.fixed),
            widths=dict(stage.widths),
            overrides=dict(stage.overrides),
            seed=seed,
            bounds=self._rules.bounds[index]._asdict(),
        )

    def _end_stage(self, reason: str) -> None:
        assert self._state.stage is not None
        best = self._state.stage.best
        self._record("stage_end", reason=reason, best=None if best is None else summary(best))
        self._controller = None

    def _finished(self) -> Finished:
        assert self._state.ended is not None
        return Finished(self._state.ended["reason"], self._state.ended["error"])

    # Writing

    def _record(self, event: str, **values: Any) -> None:
        stage = self._state.stage.name if self._state.stage else None
        entry: Event = {"event": event, "time": self._clock(), "stage": stage, **values}
        self._state.apply(entry)
        self._unwritten.append(entry)

    def _commit(self) -> None:
        """Everything recorded in one call goes to the disk before the call returns."""
        if not self._unwritten:
            return
        self._events_since_snapshot += len(self._unwritten)
        if self._events_since_snapshot >= self.plan.snapshot_every and self._controller is not None:
            self._snapshot()
        events, self._unwritten = self._unwritten, []
        self._journal.append(*events)

    def _snapshot(self) -> None:
        assert self._controller is not None
        state = {"controller": self._controller.state_dict(), "proposals": dict(self._proposals)}
        name, sha256 = write_snapshot(self.folder, len(self._journal) + len(self._unwritten), state)
        self._record("snapshot", file=name, sha256=sha256)
        self._events_since_snapshot = 0
