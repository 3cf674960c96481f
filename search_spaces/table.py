"""A space that is a table: controllers can be tried on it without training anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from search_spaces.base import Architecture, Decision, SearchSpace, Tokens
from search_spaces.diagram import Diagram
from search_spaces.score_table import read_score_table

PART = "row"


class TableRecipe(BaseModel):
    """``file``: CSV (``.gz`` too), read as :func:`search_spaces.score_table.read_score_table` says; ``score``:
    the column of the score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path
    score: str | None = None


class TableSpace(SearchSpace):
    """The architectures of a file, with one part, ``row``; what the file leaves out is not allowed.

    ``--space table:FILE`` on the command line. Every row is an architecture of its own, and none has a network.
    The variant is a hash of decisions and choices, so that architectures of two tables cannot be mixed up.

    Raises:
        InputError: the file is no table of scores.
    """

    name: ClassVar[str] = "table"
    proxy: ClassVar[str | None] = "table"
    Recipe: ClassVar[type[BaseModel]] = TableRecipe
    parts = (PART,)

    def __init__(self, recipe: BaseModel) -> None:
        assert isinstance(recipe, TableRecipe)
        self.file = recipe.file
        self.table = read_score_table(recipe.file, recipe.score)
        described = json.dumps([self.table.decisions, self.table.choices])
        self.variant = hashlib.sha256(described.encode()).hexdigest()[:12]
        self._decisions = tuple(
            Decision(name, name.partition(".")[0], choices)
            for name, choices in zip(self.table.decisions, self.table.choices, strict=True)
        )
        self._allowed = self._index()

    def _index(self) -> dict[Tokens, tuple[bool, ...]]:
        """For every prefix of an architecture, which tokens may follow."""
        following: dict[Tokens, set[int]] = {}
        for tokens in self.table.scores:
            for position, token in enumerate(tokens):
                following.setdefault(tokens[:position], set()).add(token)
        return {
            prefix: tuple(token in found for token in range(len(self.table.choices[len(prefix)])))
            for prefix, found in following.items()
        }

    def decisions(self, part: str) -> tuple[Decision, ...]:
        return self._decisions

    def allowed(self, part: str, prefix: Tokens) -> tuple[bool, ...]:
        return self._allowed[prefix]

    def scores(self, architecture: Architecture) -> dict[str, float]:
        """The score, then the metrics, by the names of their columns."""
        row = self.table.scores[tuple(architecture.parts[PART])]  # type: ignore[arg-type]
        return dict(zip(self.table.columns, row, strict=True))

    def draw(self, architecture: Architecture) -> Diagram:
        return replace(super().draw(architecture), title=self.file.name)
