"""``top10.json``: the best architectures of a run, and everything needed to train them in full."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controllers.costs import objective
from controllers.service.journal import Event
from nasperc.errors import InputError, shown
from nasperc.plain_files import read_json
from nasperc.plugins import require_named_plugins
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_space
from nasperc.search.journal_beside import check_entry, completions_beside
from nasperc.whole_files import write_whole
from search_spaces.base import WIDEST, Architecture, SearchSpace

FORMAT = "nasperc-top10/1"


class _Space(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    version: int
    variant: str


class EntryModel(BaseModel):
    """An entry as it stands in the file; ``rank`` counts up from 1."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(ge=1)
    id: int = Field(ge=0)
    stage: str
    architecture: dict[str, Any]
    hash: str
    widths: dict[str, int]
    seed: int = Field(ge=0)
    reward: float = Field(allow_inf_nan=False)
    penalty: float = Field(0.0, ge=0, allow_inf_nan=False)
    halfway: float | None = None
    metrics: dict[str, float | None]
    cost: dict[str, float | None]
    seconds: float = Field(ge=0)
    status: Literal["completed"]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["nasperc-top10/1"]
    space: _Space
    stage: str
    task: str
    recipe: dict[str, Any]
    data: dict[str, Any]
    weights: dict[str, Any]
    search_cost_hours: float = Field(ge=0)
    entries: list[EntryModel] = Field(min_length=1)


@dataclass(frozen=True)
class Top10Entry:
    """One architecture that was trained to its end on the proxy task.

    ``seed``: of that training; ``reward``: as it was measured; ``penalty``: what its cost takes off in rankings.
    """

    rank: int
    id: int
    stage: str
    architecture: Architecture
    hash: str
    widths: Mapping[str, int]
    seed: int
    reward: float
    metrics: Mapping[str, float | None]
    cost: Mapping[str, float | None]
    penalty: float = 0.0

    @property
    def objective(self) -> float:
        """What entries of one stage are ranked by."""
        return self.reward - self.penalty


@dataclass(frozen=True)
class Top10File:
    """A ``top10.json`` that was read and checked. ``stage``: of the first entry; ``task``: the proxy task."""

    path: Path
    space: SearchSpace
    stage: str
    task: str
    recipe: Recipe
    data: Mapping[str, Any]
    weights: Mapping[str, Any]
    search_cost_hours: float
    entries: tuple[Top10Entry, ...]


class Top10:
    """The best completed candidates, collected from the journal's events.

    Rewards of different stages are not comparable (other widths, other proxy settings), so the stages are
    ranked first: entries of the last stage, best reward first (less its penalty, where the run has a cost target),
    then, where those are fewer than ``size``, of the stage before it. At equal rewards the earlier candidate is
    better. A canonical hash appears once, in its last stage.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.cost_hours = 0.0
        self._stages: list[str] = []
        self._best: dict[str, list[Event]] = {}

    def apply(self, event: Event) -> bool:
        """Take one event; True if the ranking has changed."""
        if event["event"] in {"completion", "stop", "failure", "retry", "rejection"}:
            self.cost_hours += event["seconds"] / 3600.0
        if event["event"] == "stage_start":
            self._stages.insert(0, event["stage"])
            self._best[event["stage"]] = []
        if event["event"] != "completion":
            return False
        ranked = self._best[event["stage"]]
        if any(known["hash"] == event["hash"] for known in ranked):
            return False
        ranked.append(event)
        ranked.sort(key=lambda known: (-objective(known), known["id"]))
        del ranked[self.size :]
        return event in ranked

    def events(self) -> list[Event]:
        """Completions in the order of their ranks."""
        chosen: dict[str, Event] = {}
        for stage in self._stages:
            for event in self._best[stage]:
                chosen.setdefault(event["hash"], event)
        return list(chosen.values())[: self.size]

    def write(self, path: Path, recipe: Recipe, space: SearchSpace, description: Mapping[str, Any]) -> bool:
        """Write the file, whole or not at all; False (and no file) as long as nothing was completed.

        Args:
            path: of the file.
            recipe: the resolved recipe of the run.
            space: the search space.
            description: of the proxy task: its ``data`` and ``weights``.
        """
        events = self.events()
        if not events:
            return False
        document = {
            "format": FORMAT,
            "space": {"name": space.name, "version": space.version, "variant": space.variant},
            "stage": events[0]["stage"],
            "task": recipe.proxy.name,
            "recipe": recipe.to_dict(),
            "data": description.get("data", {}),
            "weights": description.get("weights", {}),
            "search_cost_hours": self.cost_hours,
            "entries": entries_of(events),
        }
        write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
        return True


def entries_of(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Completions as entries, ranked in this order."""
    measured = ("reward", "halfway", "metrics", "cost", "seconds")
    keys = ("id", "stage", "architecture", "hash", "widths", "seed", *measured)
    return [
        {
            "rank": rank,
            **{key: event[key] for key in keys},
            "penalty": event.get("penalty", 0.0),
            "status": "completed",
        }
        for rank, event in enumerate(events, start=1)
    ]


def read_top10(path: str | Path) -> Top10File:
    """Read and check a ``top10.json``: keys and types, recipe, ranks, each architecture by space and hash; where a
    journal lies beside it, everything that this says of its candidates.

    Raises:
        InputError: anything missing, unknown or contradictory.
    """
    path = Path(path)
    repair = "Write it again: nasperc search --resume RUN rebuilds top10.json from the journal."
    try:
        document = read_json(path)
    except FileNotFoundError as error:
        raise InputError(
            "top10.json must exist",
            value="no such file",
            where=path,
            repair="A search writes it: nasperc search --space fcos_decoder.",
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            "top10.json must be a readable JSON file of plain values", value=error, where=path, repair=repair
        ) from error
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise InputError(
            f"top10.json is not valid at {key}: {first['msg']}",
            value=shown(first["input"]),
            where=path,
            repair=repair,
        ) from error
    require_named_plugins(file.recipe, where=f"{path}, recipe")
    recipe = parse_recipe(file.recipe, where=f"{path}, recipe")
    space = build_space(recipe)
    if file.space.name != space.name:
        raise InputError(
            "the space of top10.json must be its recipe's", value=file.space.name, where=path, repair=repair
        )
    completed = completions_beside(path, recipe)
    entries = tuple(
        read_entry(entry, space, path, f"{path}, rank {entry.rank}", completed) for entry in file.entries
    )
    if [entry.rank for entry in entries] != list(range(1, len(entries) + 1)):
        raise InputError(
            "ranks must count up from 1", value=[entry.rank for entry in entries], where=path, repair=repair
        )
    if len({entry.hash for entry in entries}) != len(entries):
        raise InputError(
            "an architecture must appear once in top10.json",
            value="one hash twice",
            where=path,
            repair=repair,
        )
    for first_entry, second_entry in pairwise(entries):
        if first_entry.stage == second_entry.stage and first_entry.objective < second_entry.objective:
            raise InputError(
                "entries of a stage must be ordered by reward (less its penalty)",
                value=f"{first_entry.objective} before {second_entry.objective}",
                where=f"{path}, rank {second_entry.rank}",
                repair=repair,
            )
    return Top10File(
        path=path,
        space=space,
        stage=file.stage,
        task=file.task,
        recipe=recipe,
        data=file.data,
        weights=file.weights,
        search_cost_hours=file.search_cost_hours,
        entries=entries,
    )


def read_entry(
    entry: EntryModel,
    space: SearchSpace,
    path: Path,
    where: str,
    completed: Mapping[int, Event] | None = None,
) -> Top10Entry:
    """Check one entry: its architecture by space and hash, its widths, and all of it by the journal beside it.

    Args:
        entry: as it stands in the file.
        space: of the file's recipe.
        path: of the file.
        where: in it, for messages.
        completed: what that journal holds as completed, by id; None: there is no journal.

    Raises:
        InputError: they do not fit.
    """
    if completed is not None:
        event = completed.get(entry.id)
        same = event is not None and event["hash"] == entry.hash
        expected = EntryModel.model_validate(entries_of([event])[0]).model_dump() if event and same else None
        given = entry.model_dump()
        check_entry(given, None if expected is None else {**expected, "rank": entry.rank}, path, where)
    architecture = space.from_dict({**entry.architecture, "hash": entry.hash}, where=where)
    for part, width in entry.widths.items():
        if not 1 <= width <= WIDEST:
            raise InputError(
                f"a width must be from 1 to {WIDEST}",
                value=f"{part}: {width}",
                where=where,
                repair="Restore the file.",
            )
    return Top10Entry(
        rank=entry.rank,
        id=entry.id,
        stage=entry.stage,
        architecture=architecture,
        hash=entry.hash,
        widths=entry.widths,
        seed=entry.seed,
        reward=entry.reward,
        metrics=entry.metrics,
        cost=entry.cost,
        penalty=entry.penalty,
    )
