"""Bringing a controller to the state that a journal implies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from controllers.base import Controller
from controllers.costs import objective
from controllers.service.candidate_events import architecture_from
from controllers.service.journal import Event
from controllers.service.learner import Learner
from controllers.service.plan import SearchPlan
from controllers.service.snapshot import KEPT, NotTheSnapshotError, bad_snapshot, read_snapshot
from nasperc.errors import InputError, shown
from search_spaces.base import ORIGINAL, Part, SearchSpace, TokenSpace

ControllerFactory = Callable[[TokenSpace, int], Controller]


def check_journal(
    events: Sequence[Event],
    space: SearchSpace,
    plan: SearchPlan,
    format: int,
    path: Path,
    fingerprint: str | None = None,
) -> None:
    """Check that a journal belongs to this run.

    Raises:
        InputError: another format, space, variant, seed or stages; another fingerprint, where both are known.
    """
    start = events[0]
    repair = "Resume with the recipe that stands in the run's folder, or begin a new run."
    if start.get("event") != "run_start" or start.get("format") != format:
        raise InputError(
            f"a journal must begin with run_start of format {format}",
            value=f"{start.get('event')} of format {start.get('format')}",
            where=path,
            repair="Resume it with the version of nasperc that began it.",
        )
    named = {"name": space.name, "version": space.version, "variant": space.variant}
    for label, found, expected in (
        ("space", start["space"], named),
        ("seed", start["plan"]["seed"], plan.seed),
        ("stages", [stage["name"] for stage in start["stages"]], [stage.name for stage in space.stages()]),
    ):
        if found != expected:
            raise InputError(
                f"a resumed run must keep its {label} ({expected})", value=found, where=path, repair=repair
            )
    if fingerprint is not None and start.get("fingerprint") not in (None, fingerprint):
        raise InputError(
            f"a resumed run must measure what it measured before (fingerprint {fingerprint[:8]})",
            value=str(start["fingerprint"])[:8],
            where=path,
            repair="Data, weights or the version of the proxy task have changed: restore them, or begin a new run.",
        )


def check_begun_by(session: str, events: Sequence[Event], path: Path) -> None:
    """Check that a journal is the one that a new run's own driver began, below which its service was restarted.

    Raises:
        InputError: another driver began it, or has resumed it since.
    """
    for event in events:
        if event["event"] in ("run_start", "run_resume") and event.get("session") != session:
            who = f"process {event.get('pid')} on {event.get('host')}"
            raise InputError(
                "a new run must begin its journal itself, and no other driver go on with it meanwhile",
                value=f"one that {who} has {'begun' if event is events[0] else 'resumed'}",
                where=path,
                repair=f"Choose another name, or go on with that run: nasperc search --resume {path.parent}",
            )


def check_recipe(recipe: Mapping[str, Any] | None, start: Event, path: Path) -> None:
    """Check that a run is searched by the recipe that it began with, as far as both are known.

    Args:
        recipe: resolved, as plain values; None: not known.
        start: the journal's first event.
        path: of the journal.

    Raises:
        InputError: a key differs; the first one is named.
    """
    began = start.get("recipe")
    if recipe is None or not isinstance(began, Mapping):
        return
    found = first_difference(began, recipe)
    if found is not None:
        key, before, now = found
        raise InputError(
            f"a resumed run must keep the recipe key {key} that its journal began with ({shown(before)})",
            value=now,
            where=path,
            repair="Restore recipe.yaml in the run's folder (a journal holds the resolved recipe in its first line), "
            "or begin a new run.",
        )


def first_difference(began: Any, now: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first key, dotted, that two nested mappings both have and that differs, with both values."""
    if isinstance(began, Mapping) and isinstance(now, Mapping):
        for name in began:
            if name in now:
                found = first_difference(began[name], now[name], f"{key}.{name}" if key else name)
                if found is not None:
                    return found
        return None
    # 1 and 1.0 are one number in YAML, 1 and True are not.
    same = began == now and isinstance(began, bool) == isinstance(now, bool)
    return None if same else (key, began, now)


class ControllerReplay:
    """Rebuilds a controller: the last snapshot (else the start of the stage), then every later event in
    order.

    When the controller does not repeat what the journal says (another version of torch, another processor),
    the candidates that it did not propose itself are told to it as observed from outside, so nothing measured
    is lost.

    Attributes:
        snapshot: the file that was used; None when there was none.
        passed_over: later ones that are damaged or gone, and why they could not be used; not those that a run deletes.
        diverged: the controller did not repeat a proposal.
        events_since_snapshot: events after the snapshot.
    """

    def __init__(self, folder: Path, space: SearchSpace, factory: ControllerFactory) -> None:
        self._folder, self._space, self._factory = folder, space, factory
        self.snapshot: str | None = None
        self.passed_over: list[str] = []
        self.diverged = False
        self.events_since_snapshot = 0

    def run(self, events: Sequence[Event]) -> Learner | None:
        """The learner of the stage in which the journal ends; None between stages."""
        started = _last(events, "stage_start")
        if started is None or any(event["event"] == "stage_end" for event in events[started:]):
            return None
        start = events[started]
        learner = Learner(self._factory(self._token_space(start), start["seed"]))
        later = started + 1
        snapshots = [
            number for number in range(started, len(events)) if events[number]["event"] == "snapshot"
        ]
        for age, number in enumerate(reversed(snapshots)):
            file = events[number]["file"]
            try:
                state = read_snapshot(self._folder, file, events[number]["sha256"])
            except NotTheSnapshotError as error:
                if age < KEPT:
                    self.passed_over.append(f"{file}: {error}")
                continue
            try:
                learner.load_state_dict(state)
            # Tensors of other shapes, keys that are missing, other types: each controller has its own ways.
            except Exception as error:
                raise bad_snapshot(self._folder / file, f"{type(error).__name__}: {error}") from error
            self.snapshot, later = file, number + 1
            break
        for event in events[later:]:
            self._replay(learner, event)
        self.events_since_snapshot = len(events) - later
        return learner

    def _token_space(self, start: Event) -> TokenSpace:
        stage = {stage.name: stage for stage in self._space.stages()}[start["stage"]]
        best: dict[str, Part] = {
            name: ORIGINAL if part == ORIGINAL else tuple(part) for name, part in start["fixed"].items()
        }
        return TokenSpace(self._space, stage, best)

    def _replay(self, learner: Learner, event: Event) -> None:
        kind = event["event"]
        if kind in ("proposal", "replay", "redraw"):
            proposal = learner.propose()
            same = proposal.architecture == architecture_from(event, self._space)
            if kind == "replay" and same:
                learner.replayed(proposal.id, event["reward"])
            elif kind == "proposal" and same:
                learner.hand_out(event["id"], proposal.id)
            else:
                learner.drop(proposal.id)
            if kind == "proposal" and not same:
                learner.hand_out(event["id"], None)
            self.diverged = self.diverged or not same
        elif kind in ("completion", "stop"):
            learner.observe(event["id"], architecture_from(event, self._space), objective(event))
        elif kind == "failure" or (kind == "rejection" and event["observed"] is None):
            learner.fail(event["id"])
        elif kind == "rejection":
            learner.observe(event["id"], architecture_from(event, self._space), event["observed"])
        elif kind == "external":
            learner.observe_external(architecture_from(event, self._space), event["reward"])


def _last(events: Sequence[Event], kind: str) -> int | None:
    numbers = (number for number in range(len(events) - 1, -1, -1) if events[number]["event"] == kind)
    return next(numbers, None)
