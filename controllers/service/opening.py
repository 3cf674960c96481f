"""Beginning a run, or going on with one where its journal ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from controllers.service.journal import Event
from controllers.service.plan import SearchPlan
from controllers.service.record import RunRecord
from controllers.service.resume import (
    ControllerFactory,
    ControllerReplay,
    check_begun_by,
    check_journal,
    check_recipe,
)
from nasperc.errors import InputError
from search_spaces.base import SearchSpace

FORMAT = 1


class Opening(NamedTuple):
    """Who opens a run, and as what.

    ``session``: names the driver; ``begin``: the run is a new one, so its journal may be of this driver only;
    ``recipe``: what it is searched by, as plain values, None: not known; ``fingerprint``: of the proxy task, None: not
    known.
    """

    session: str
    begin: bool = False
    recipe: Mapping[str, Any] | None = None
    fingerprint: str | None = None


def open_run(
    run: RunRecord,
    space: SearchSpace,
    plan: SearchPlan,
    factory: ControllerFactory,
    opening: Opening,
) -> None:
    """Bring a fresh record to the state that its journal implies, and say so in the journal.

    Args:
        run: nothing was recorded in it yet.
        space: the search space.
        plan: budget and terms.
        factory: makes the controller of a stage.
        opening: who does, and as what.

    Raises:
        InputError: the journal is of another driver's new run, of another recipe, space, seed or format, or its events
            make no run.
    """
    events = run.journal.take_known()
    who = {"pid": os.getpid(), "host": socket.gethostname()}
    if not events:
        run.record_session(
            "run_start",
            opening.session,
            format=FORMAT,
            **who,
            plan=plan.model_dump(mode="json"),
            recipe=opening.recipe,
            space={"name": space.name, "version": space.version, "variant": space.variant},
            stages=[asdict(stage) for stage in space.stages()],
            fingerprint=opening.fingerprint,
        )
        run.commit()
        return
    replay = _fold(run, events, space, plan, factory, opening)
    ended, whole = run.state.ended, run.journal.dropped is None
    # What was dropped behind the end is said, too; then the run ends again.
    if ended is not None and (run.state.session == opening.session or (ended["error"] is None and whole)):
        return
    run.record_session(
        "run_resume",
        opening.session,
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
    opening: Opening,
) -> ControllerReplay:
    replay = ControllerReplay(run.folder, space, factory)
    line = 1
    try:
        if opening.begin:
            check_begun_by(opening.session, events, run.journal.path)
        check_journal(events, space, plan, FORMAT, run.journal.path, opening.fingerprint)
        check_recipe(opening.recipe, events[0], run.journal.path)
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
