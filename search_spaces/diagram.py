"""A drawing of an architecture, independent of how it is rendered."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """A box: ``kind`` is one of ``input``, ``op``, ``aggregation``, ``output``, ``layer``, ``predictor``.

    ``column`` and ``row`` place it on a grid; ``shared`` marks a layer whose weights all levels share (None:
    does not apply); ``stride`` is given where it is known.
    """

    id: str
    label: str
    kind: str
    column: float
    row: float
    stride: int | None = None
    shared: bool | None = None


@dataclass(frozen=True)
class Edge:
    """An arrow between two nodes; ``dashed`` for the dangling rule (equation 7.1)."""

    source: str
    target: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Diagram:
    """Panels side by side (``fpn``, ``head``), each with its nodes and edges."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Panel:
    """One titled group of nodes."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    notes: tuple[str, ...] = field(default=())
