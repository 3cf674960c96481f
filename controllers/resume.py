"""Bringing a controller to the state that a journal implies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from controllers.base import Controller
from controllers.journal import Event
from controllers.plan import SearchPlan
from controllers.snapshot import bad_snapshot, read_snapshot
from controllers.state import architecture_from
from nasperc.errors import InputError
from search_spaces.base import ORIGINAL, Part, SearchSpace, Stage, TokenSpace


def check_journal(
    events: Sequence[Event], space: SearchSpace, plan: SearchPlan, format: int, path: Path
) -> None:
    """Check that a journal belongs to this run.

    Raises:
        InputError: another format, space, variant, seed or stages.
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


class ControllerReplay:
    """Rebuilds a controller: the last snapshot (else the start of the stage), then every later event in
    order.

    When the controller does not repeat what the journal says (another version of torch, another processor),
    the candidates that it did not propose itself are told to it as observed from outside, so nothing measured
    is lost.

    Attributes:
        snapshot: the file that was used; None when there was none.
        diverged: the controller did not repeat a proposal.
        events_since_snapshot: events after the snapshot.
    """

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        stages: Sequence[Stage],
        factory: Callable[[TokenSpace, int], Controller],
    ) -> None:
        self._folder, self._space, self._stages, self._factory = folder, space, stages, factory
        self.snapshot: str | None = None
        self.diverged = False
        self.events_since_snapshot = 0

    def run(self, events: Sequence[Event]) -> tuple[Controller | None, dict[int, int | None]]:
        """The controller of the stage in which the journal ends (None between stages), and the controller's
        number of each pending candidate (None: it was not proposed by this controller)."""
        started = _last(events, "stage_start")
        if started is None or any(event["event"] == "stage_end" for event in events[started:]):
            return None, {}
        start = events[started]
        controller = self._factory(self._token_space(start), start["seed"])
        proposals: dict[int, int | None] = {}
        later = started + 1
        for number in range(len(events) - 1, started, -1):
            if events[number]["event"] != "snapshot":
                continue
            state = read_snapshot(self._folder, events[number]["file"], events[number]["sha256"])
            if state is not None:
                try:
                    controller.load_state_dict(state["controller"])
                    proposals = dict(state["proposals"])
                # Tensors of other shapes, keys that are missing, other types: each controller has its own ways.
                except Exception as error:
                    path = self._folder / events[number]["file"]
                    raise bad_snapshot(path, f"{type(error).__name__}: {error}") from error
                self.snapshot, later = events[number]["file"], number + 1
                break
        for event in events[later:]:
            self._replay(controller, event, proposals)
        self.events_since_snapshot = len(events) - later
        return controller, proposals

    def _token_space(self, start: Event) -> TokenSpace:
        stage = {stage.name: stage for stage in self._stages}[start["stage"]]
        best: dict[str, Part] = {
            name: ORIGINAL if part == ORIGINAL else tuple(part) for name, part in start["fixed"].items()
        }
        return TokenSpace(self._space, stage, best)

    def _replay(self, controller: Controller, event: Event, proposals: dict[int, int | None]) -> None:
        kind = event["event"]
        if kind in ("proposal", "replay", "redraw"):
            proposal = controller.propose()
            same = proposal.architecture == architecture_from(event, self._space)
            if kind == "replay" and same:
                controller.replayed(proposal.id, event["reward"])
            elif kind == "proposal" and same:
                proposals[event["id"]] = proposal.id
            else:
                controller.fail(proposal.id)
            if kind == "proposal" and not same:
                proposals[event["id"]] = None
            self.diverged = self.diverged or not same
        elif kind in ("completion", "stop"):
            _observe(controller, event, proposals.pop(event["id"]), self._space)
        elif kind == "failure":
            number = proposals.pop(event["id"])
            if number is not None:
                controller.fail(number)
        elif kind == "external":
            controller.observe_external(architecture_from(event, self._space), event["reward"])


def _observe(controller: Controller, event: dict[str, Any], number: int | None, space: SearchSpace) -> None:
    reward = event["reward"] if event["event"] == "completion" else event["halfway"]
    if number is None:
        controller.observe_external(architecture_from(event, space), reward)
    else:
        controller.observe(number, reward)


def _last(events: Sequence[Event], kind: str) -> int | None:
    numbers = (number for number in range(len(events) - 1, -1, -1) if events[number]["event"] == kind)
    return next(numbers, None)
