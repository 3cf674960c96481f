"""``pareto.json``: which architectures of a run nobody beats in both reward and cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controllers.costs import COSTS, CostName
from controllers.service.journal import Event
from nasperc.errors import InputError, shown
from nasperc.plain_files import read_json
from nasperc.plugins import require_named_plugins
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_space
from nasperc.search.journal_beside import completions_beside
from nasperc.search.top10 import EntryModel, Top10Entry, entries_of, read_entry
from nasperc.whole_files import write_whole

FORMAT = "nasperc-pareto/1"


class ParetoFront(NamedTuple):
    """Of one stage and one cost; entries from the best reward to the lowest cost."""

    stage: str
    cost: CostName
    entries: tuple[Top10Entry, ...]


class _Front(BaseModel):
    model_config = ConfigDict(extra="forbid")

    stage: str
    cost: CostName
    entries: list[EntryModel] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["nasperc-pareto/1"]
    recipe: dict[str, Any]
    fronts: list[_Front]


def on_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (reward, cost) that no other one beats, by falling reward.

    One beats another if its reward is at least as high, its cost at most as high, and they are not equal: of equal
    points all are on the front, in their order.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0])):
        # Costs rise from here on, so a further point must earn more, or be equal to the last one.
        if not front or points[index][0] > points[front[-1]][0] or points[index] == points[front[-1]]:
            front.append(index)
    return sorted(front, key=lambda index: (-points[index][0], index))


class ParetoFronts:
    """Collects the fronts from the journal's events, a front for each stage and each cost that was measured.

    Rewards are those that were measured: what a cost target takes off would count the cost twice.
    """

    def __init__(self) -> None:
        self._fronts: dict[tuple[str, CostName], list[Event]] = {}

    def apply(self, event: Event) -> bool:
        """Take one event; True if a front has changed."""
        if event["event"] != "completion":
            return False
        changed = False
        for cost in COSTS:
            if event["cost"].get(cost) is None:
                continue
            front = [*self._fronts.get((event["stage"], cost), ()), event]
            # What was beaten before is beaten still: the front is all that need be kept.
            kept = [front[index] for index in on_front([(e["reward"], e["cost"][cost]) for e in front])]
            changed |= event in kept
            self._fronts[event["stage"], cost] = kept
        return changed

    def fronts(self) -> dict[tuple[str, CostName], list[Event]]:
        """Completions by stage and cost, from the best reward to the lowest cost."""
        return {key: list(front) for key, front in self._fronts.items()}

    def write(self, path: Path, recipe: Recipe) -> bool:
        """Write the file, whole or not at all; False (and no file) as long as there is no front."""
        if not self._fronts:
            return False
        fronts = [
            {"stage": stage, "cost": cost, "entries": entries_of(events)}
            for (stage, cost), events in self._fronts.items()
        ]
        document = {"format": FORMAT, "recipe": recipe.to_dict(), "fronts": fronts}
        write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
        return True


def read_pareto(path: str | Path) -> tuple[ParetoFront, ...]:
    """Read and check a ``pareto.json``: keys and types, recipe, each architecture by space and hash, each front; where
    a journal lies beside it, everything that this says of its candidates.

    Raises:
        InputError: anything missing, unknown or contradictory.
    """
    path = Path(path)
    repair = "Write it again: nasperc search --resume RUN rebuilds pareto.json from the journal."
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(
            "pareto.json must be a readable JSON file of plain values", value=error, where=path, repair=repair
        ) from error
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise InputError(
            f"pareto.json is not valid at {key}: {first['msg']}",
            value=shown(first["input"]),
            where=path,
            repair=repair,
        ) from error
    require_named_plugins(file.recipe, where=f"{path}, recipe")
    recipe = parse_recipe(file.recipe, where=f"{path}, recipe")
    space, completed = build_space(recipe), completions_beside(path, recipe)
    fronts = []
    for front in file.fronts:
        where = f"{path}, front of {front.cost} in the stage {front.stage}"
        entries = tuple(
            read_entry(entry, space, path, f"{where}, rank {entry.rank}", completed)
            for entry in front.entries
        )
        if not _is_front(front, entries):
            raise InputError(
                "a front must rank architectures of its stage that do not beat each other, by falling reward",
                value=[(entry.rank, entry.reward, entry.cost.get(front.cost)) for entry in entries],
                where=where,
                repair=repair,
            )
        fronts.append(ParetoFront(front.stage, front.cost, entries))
    return tuple(fronts)


def _is_front(front: _Front, entries: Sequence[Top10Entry]) -> bool:
    # A cost that is missing, or NaN, is on no front.
    points = [(entry.reward, entry.cost.get(front.cost) or math.nan) for entry in entries]
    return (
        all(math.isfinite(cost) for _, cost in points)
        and {entry.stage for entry in entries} == {front.stage}
        and [entry.rank for entry in entries] == list(range(1, len(entries) + 1))
        and all(one.reward >= other.reward for one, other in pairwise(entries))
        and len(on_front(points)) == len(points)
    )
