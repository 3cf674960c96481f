"""An architecture in plain text."""

from __future__ import annotations

from nasperc.shown_text import printable
from search_spaces.base import Architecture, SearchSpace
from search_spaces.diagram import Diagram, Edge, Node, Panel

_SHARING = {None: "", True: "shared by all levels", False: "separate for each level"}


def describe(architecture: Architecture, space: SearchSpace) -> str:
    """What an architecture computes, one line a node, then its tokens and its hash."""
    lines = [describe_diagram(space.draw(architecture))]
    for name, part in architecture.parts.items():
        lines.append(f"{name}: {part if isinstance(part, str) else ' '.join(map(str, part))}")
    lines.append(f"hash: {space.hash(architecture)}")
    return "\n".join(lines) + "\n"


def describe_diagram(diagram: Diagram) -> str:
    """The panels of a diagram: each node with its stride, what it does, and its inputs in their order."""
    return "\n".join([printable(diagram.title), "", *(_panel(panel) for panel in diagram.panels)])


def _panel(panel: Panel) -> str:
    rows = [[printable(cell) for cell in _row(panel, node)] for node in panel.nodes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [printable(panel.title)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width]
        lines.append(("  " + "   ".join(cells)).rstrip())
    lines += [f"  {printable(note)}" for note in panel.notes]
    return "\n".join(lines) + "\n"


def _row(panel: Panel, node: Node) -> tuple[str, str, str, str, str]:
    stride = "" if node.stride is None else f"/{node.stride}"
    label = "" if node.label == node.id else node.label
    does = ", ".join(text for text in (label, node.detail) if text)
    inputs = "; ".join(_input(source, edge) for source, edge in panel.inputs_of(node))
    return node.id, stride, does, inputs, _SHARING[node.shared]


def _input(source: Node, edge: Edge) -> str:
    label = f" → {edge.label}" if edge.label else ""
    return f"{source.id}{label}{' (dangling)' if edge.dashed else ''}"
