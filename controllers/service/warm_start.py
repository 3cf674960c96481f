"""Evaluations of other runs that a controller may learn from, and that they measure the same as this run.

They teach the controller and nothing else: they are not counted, never ranked, and answer no duplicate. A
candidate's seed derives from its run's, so here the same architecture would earn another reward; and the best of
the other run can stand in this run's ``top10.json`` only if it is trained here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from controllers.service.candidate_events import architecture_from
from controllers.service.journal import Event, Journal
from controllers.service.plan import SearchPlan
from controllers.service.record import JOURNAL
from nasperc.errors import InputError
from nasperc.old_files import PIXELS_NOT_KNOWN
from search_spaces.base import Architecture, Part, SearchSpace, Stage


class Evaluation(NamedTuple):
    """A completed candidate ``of`` another run (its folder); ``reward`` as this run's controller would see it."""

    run: str
    of: int
    architecture: Architecture
    reward: float


class WarmStart:
    """Reads the journals of other runs, whenever it is asked.

    Args:
        runs: their folders.
        space: of this run.
        fingerprint: of this run's proxy task.
        plan: of this run: what its cost target takes off is taken off here too, and what exceeds its limits is left
            out.
        earlier: fingerprints that earlier versions gave the same proxy task, as far as they could tell.
    """

    def __init__(
        self,
        runs: Sequence[Path],
        space: SearchSpace,
        fingerprint: str | None,
        plan: SearchPlan,
        earlier: Sequence[str] = (),
    ) -> None:
        self._runs, self._earlier = list(dict.fromkeys(runs)), earlier
        self._space, self._fingerprint, self._plan = space, fingerprint, plan

    def check(self) -> list[str]:
        """Refuse runs of which nothing can be reused, before anything is trained.

        Which architecture a later stage builds on is not known yet: whether it is the same is found out when that
        stage begins, and said in the journal.

        Returns:
            What should be said of the runs, a line each.

        Raises:
            InputError: no run there; another space or proxy task; no stage in common; nothing completed in it.
        """
        notes = []
        for run in self._runs:
            reasons = []
            for stage in self._space.stages():
                fixed = {name: part for name, part in stage.fixed.items() if part != "best"}
                try:
                    self._read(run, stage, fixed)
                    break
                except InputError as error:
                    reasons.append(error)
            else:
                raise reasons[0]
            if Journal.read(run / JOURNAL)[0].get("fingerprint") in self._earlier:
                notes.append(
                    f"{PIXELS_NOT_KNOWN}: {run} began before the bytes of images were looked at; the controller learns "
                    "from what it measured, on the same annotations"
                )
        return notes

    def evaluations(self, stage: Stage, fixed: Mapping[str, Part]) -> tuple[list[Evaluation], dict[str, str]]:
        """Of all runs in their order; and for each that has none for this stage, why.

        Args:
            stage: of this run.
            fixed: its fixed parts, those of the best architecture filled in.
        """
        found: list[Evaluation] = []
        skipped: dict[str, str] = {}
        for run in self._runs:
            try:
                found += self._read(run, stage, fixed)
            except InputError as error:
                # The run was checked when this one began; by now it may have been deleted.
                skipped[str(run)] = str(error)
        return found, skipped

    def _read(self, run: Path, stage: Stage, fixed: Mapping[str, Part]) -> list[Evaluation]:
        path = run / JOURNAL
        events = Journal.read(path)
        try:
            self._compare(events, stage, fixed, path)
            evaluations = [
                self._evaluation(run, event)
                for event in events
                if event["event"] == "completion" and event["stage"] == stage.name and self._fits(event)
            ]
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(
                "the events of a journal must make a run",
                value=f"{type(error).__name__}: {error}",
                where=path,
                repair="The journal was not written by this program: restore it, or leave this run out.",
            ) from error
        if not evaluations:
            raise InputError(
                "a warm start needs completed candidates that keep this run's limits, with the cost that it aims at",
                value=f"none in the stage {stage.name}",
                where=path,
                repair="Leave this run out.",
            )
        return evaluations

    def _compare(self, events: Sequence[Event], stage: Stage, fixed: Mapping[str, Part], path: Path) -> None:
        start = events[0] if events else {}
        space = {"name": self._space.name, "version": self._space.version, "variant": self._space.variant}
        # That the pixels are the same cannot be known then, and is said; it teaches the controller and ranks nothing.
        measured = (
            self._fingerprint if start.get("fingerprint") in self._earlier else start.get("fingerprint")
        )
        begun = next((e for e in events if e["event"] == "stage_start" and e["stage"] == stage.name), None)
        expected: dict[str, tuple[Any, Any]] = {
            "space": (start.get("space"), space),
            "proxy fingerprint": (measured, self._fingerprint),
            f"stage {stage.name}": (begun and stage.name, stage.name),
        }
        if begun is not None:
            expected |= {
                "free parts": (begun["free"], stage.free),
                "widths": (begun["widths"], stage.widths),
                "overrides": (begun["overrides"], stage.overrides),
                "fixed parts": ({name: begun["fixed"].get(name) for name in fixed}, fixed),
            }
        for label, (found, wanted) in expected.items():
            if _plain(found) != _plain(wanted):
                raise InputError(
                    f"a warm start must have the {label} of this run ({_plain(wanted)})",
                    value=_plain(found),
                    where=path,
                    repair="Leave this run out, or search as it did.",
                )

    def _fits(self, event: Event) -> bool:
        target, cost = self._plan.cost_target, event["cost"]
        known = {name: amount for name, amount in cost.items() if amount is not None}
        if target is not None and target.cost not in known:
            return False
        return self._plan.limits.amounts.keys() <= known.keys() and self._plan.limits.exceeded(known) is None

    def _evaluation(self, run: Path, event: Event) -> Evaluation:
        target, reward = self._plan.cost_target, event["reward"]
        if not isinstance(reward, int | float) or not math.isfinite(reward):
            raise TypeError(f"a reward must be a finite number, not {reward}")
        penalty = 0.0 if target is None else target.penalty(event["cost"])
        return Evaluation(str(run), int(event["id"]), architecture_from(event, self._space), reward - penalty)


def _plain(value: Any) -> Any:
    """As it would come back from JSON."""
    return json.loads(json.dumps(value))
