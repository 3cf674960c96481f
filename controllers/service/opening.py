"""Beginning a run, or going on with one where its journal ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import asdict

from controllers.service.journal import Event
from controllers.service.plan import SearchPlan
from controllers.service.record import RunRecord
from controllers.service.resume import ControllerFactory, ControllerReplay, check_journal
from nasperc.errors import InputError
from search_spaces.base import SearchSpace

FORMAT = 1


def open_run(
    run: RunRecord,
    space: SearchSpace,
    plan: SearchPlan,
    factory: ControllerFactory,
    session: str,
    fingerprint: str | None,
) -> None:
    """Bring a fresh record to the state that its journal implies, and say so in the journal.

    Args:
        run: nothing was recorded in it yet.
        space: the search space.
        plan: budget and terms.
        factory: makes the controller of a stage.
        session: names the driver.
        fingerprint: of the proxy task; None: not known.

    Raises:
        InputError: the journal is of another space, seed or format, or its events make no run.
    """
    events = run.journal.take_known()
    who = {"session": session, "pid": os.getpid(), "host": socket.gethostname()}
    if not events:
        run.record(
            "run_start",
            format=FORMAT,
            **who,
            plan=plan.model_dump(mode="json"),
            space={"name": space.name, "version": space.version, "variant": space.variant},
            stages=[asdict(stage) for stage in space.stages()],
            fingerprint=fingerprint,
        )
        run.commit()
        return
    replay = _fold(run, events, space, plan, factory, fingerprint)
    ended = run.state.ended
    if ended is not None and (ended["error"] is None or run.state.session == session):
        return
    run.record(
        "run_resume",
        **who,
        events=len(events),
        pending=list(run.state.pending),
        snapshot=replay.snapshot,
        passed_over=replay.passed_over,
        diverged=replay.diverged,
    )
    if run.learner is not None:
        run.record_update()
        if replay.diverged:
            run.snapshot()
    run.commit()


def _fold(
    run: RunRecord,
    events: Sequence[Event],
    space: SearchSpace,
    plan: SearchPlan,
    factory: ControllerFactory,
    fingerprint: str | None,
) -> ControllerReplay:
    replay = ControllerReplay(run.folder, space, factory)
    line = 1
    try:
        check_journal(events, space, plan, FORMAT, run.journal.path, fingerprint)
        for line, event in enumerate(events, start=1):  # noqa: B007 (told in the error)
            run.state.apply(event)
        run.learner = replay.run(events)
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
            where=f"{run.journal.path}, line {line}",
            repair="The journal was not written by this program: restore it.",
        ) from error
    run.events_since_snapshot = replay.events_since_snapshot
    return replay
