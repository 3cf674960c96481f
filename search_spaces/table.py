"""A space that is a table: controllers can be tried on it without training anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NoReturn

from pydantic import BaseModel, ConfigDict
from torch import nn

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from search_spaces.base import Architecture, BuildContext, Decision, Part, SearchSpace, Stage, Tokens
from search_spaces.diagram import Diagram, Edge, Node, Panel
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

    def canonical(self, architecture: Architecture) -> Architecture:
        """The architecture itself."""
        return architecture

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("table", (PART,), {}, {}),)

    def scores(self, architecture: Architecture) -> dict[str, float]:
        """The score, then the metrics, by the names of their columns."""
        row = self.table.scores[tuple(architecture.parts[PART])]  # type: ignore[arg-type]
        return dict(zip(self.table.columns, row, strict=True))

    def build(
        self,
        architecture: Architecture,
        inputs: tuple[FeatureSpec, ...],
        widths: Mapping[str, int],
        context: BuildContext,
    ) -> dict[str, nn.Module]:
        """A row of a table has no modules.

        Raises:
            InputError: always.
        """
        self._no_network()

    def read_back(self, modules: Mapping[str, nn.Module]) -> dict[str, Part]:
        """A row of a table has no modules.

        Raises:
            InputError: always.
        """
        self._no_network()

    def _no_network(self) -> NoReturn:
        raise InputError(
            "an architecture must have a network to be trained or exported",
            value="a row of a table of scores",
            where=self.file,
            repair="Search a space that builds networks; a table only serves to compare controllers.",
        )

    def draw(self, architecture: Architecture) -> Diagram:
        """The choices, one after another."""
        tokens = architecture.parts[PART]
        assert not isinstance(tokens, str)
        nodes = tuple(
            Node(decision.name, f"{decision.name} = {decision.choices[token]}", "layer", column, 0)
            for column, (decision, token) in enumerate(zip(self._decisions, tokens, strict=True))
        )
        edges = tuple(Edge(one.id, other.id) for one, other in pairwise(nodes))
        return Diagram(self.file.name, (Panel("Row", nodes, edges),))
