"""A drawing of an architecture, independent of how it is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

NodeKind = Literal["input", "aggregation", "output", "layer", "skip", "predictor"]


@dataclass(frozen=True)
class Node:
    """A box.

    ``detail``: what it does with its inputs (an aggregation, a kernel). ``column`` and ``row`` place it on a
    grid, one node a cell. ``stride`` is given where it is known. ``shared``: whether all levels share the
    layer's weights; None where that means nothing.
    """

    id: str
    label: str
    kind: NodeKind
    column: int
    row: int
    detail: str = ""
    stride: int | None = None
    shared: bool | None = None


@dataclass(frozen=True)
class Edge:
    """An arrow; ``label``: what is done to the source on the way; ``dashed``: a dangling block (eq. 7.1)."""

    source: str
    target: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One titled group of nodes, e.g. ``FPN``; ``rows``: labels of the rows, from the top; ``notes``: below
    it.

    A node's inputs are its edges in the order in which they stand here.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    rows: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def chain(cls, title: str, steps: Mapping[str, str]) -> Panel:
        """Layers one after another; ``steps``: the label of each by its id."""
        nodes = tuple(Node(id, label, "layer", column, 0) for column, (id, label) in enumerate(steps.items()))
        return cls(title, nodes, tuple(Edge(one.id, other.id) for one, other in pairwise(nodes)))

    def inputs_of(self, node: Node) -> list[tuple[Node, Edge]]:
        """The nodes that ``node`` reads, each with its edge."""
        by_id = {each.id: each for each in self.nodes}
        return [(by_id[edge.source], edge) for edge in self.edges if edge.target == node.id]


@dataclass(frozen=True)
class Diagram:
    """Panels, one below the other."""

    title: str
    panels: tuple[Panel, ...]
