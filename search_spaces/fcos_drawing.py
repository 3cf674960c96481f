"""The diagram of an FCOS decoder, after Fig. 7.3 (FPN) and Fig. 7.4 (head) of the thesis."""

from __future__ import annotations

from search_spaces.aggregations import AGGREGATION_LABELS
from search_spaces.base import Architecture, Part
from search_spaces.diagram import Diagram, Edge, Node, NodeKind, Panel
from search_spaces.fcos_genotype import (
    LEVEL_STRIDES,
    LEVELS,
    POOL_STRIDES,
    FPNGenotype,
    HeadGenotype,
    Variant,
)
from search_spaces.operations import FPN_OPERATIONS, HEAD_OPERATIONS, OPERATION_LABELS, SKIP

_STRIDE_2 = "conv 3×3, stride 2"
_TOP_STRIDES = {"P6": 64, "P7": 128}
_ORIGINAL_DEPTH = 4


def draw_decoder(architecture: Architecture, variant: Variant) -> Diagram:
    """FPN and head, searched or original."""
    panels = (_fpn(architecture.parts["fpn"], variant), _head(architecture.parts["head"], variant))
    return Diagram(f"{architecture.space}, variant {variant}", panels)


def _fpn(part: Part, variant: Variant) -> Panel:
    if isinstance(part, str):
        return _draw_original_fpn()
    return _draw_fpn(FPNGenotype.from_tokens(part, variant))


def _head(part: Part, variant: Variant) -> Panel:
    if isinstance(part, str):
        return _draw_original_head()
    return _draw_head(HeadGenotype.from_tokens(part), HEAD_OPERATIONS[variant])


def _draw_fpn(genotype: FPNGenotype) -> Panel:
    """Rows are strides; a block stands in the row of its output, right of all that it reads."""
    rows = _stride_rows(genotype.pool)
    pool = len(genotype.pool)
    strides = genotype.strides()
    used = {source for block in genotype.blocks for source in (block.id1, block.id2)}
    nodes = [
        _stride_node(name, "input", 0, POOL_STRIDES[name], rows, "" if source in used else "not used")
        for source, name in enumerate(genotype.pool)
    ]
    edges = []
    taken: set[tuple[int, int]] = set()
    for index, block in enumerate(genotype.blocks):
        column = 1 + max(nodes[block.id1].column, nodes[block.id2].column)
        while (column, rows[strides[index]]) in taken:
            column += 1
        taken.add((column, rows[strides[index]]))
        name = genotype.source_name(pool + index)
        detail = AGGREGATION_LABELS[block.agg]
        nodes.append(_stride_node(name, "aggregation", column, strides[index], rows, detail))
        for source, operation in ((block.id1, block.op1), (block.id2, block.op2)):
            label = OPERATION_LABELS[FPN_OPERATIONS[operation]]
            edges.append(Edge(genotype.source_name(source), name, label))
    last = 1 + max(node.column for node in nodes)
    dangling = [genotype.source_name(pool + index) for index in genotype.dangling]
    for level, stride, output in zip(LEVELS, LEVEL_STRIDES, genotype.outputs, strict=True):
        own = strides[output]
        steps = ["sum"] * bool(dangling) + ["resize"] * (own != stride)
        nodes.append(_stride_node(level, "output", last, stride, rows, ", ".join(steps)))
        edges.append(Edge(genotype.source_name(pool + output), level))
        edges += [Edge(name, level, dashed=True) for name in dangling]
    nodes += _top_nodes(last, rows)
    edges += _top_edges()
    return Panel("FPN", tuple(nodes), tuple(edges), rows=_row_labels(rows))


def _draw_original_fpn() -> Panel:
    """Lin et al.'s pyramid: 1x1 laterals, nearest-neighbour upsampling and sum, a 3x3 for each level."""
    pool = ("C3", "C4", "C5")
    rows = _stride_rows(pool)
    nodes, edges = [], []
    for column, (name, level) in enumerate(zip(reversed(pool), reversed(LEVELS), strict=True), start=1):
        stride = POOL_STRIDES[name]
        merged = f"m{level[1:]}"
        nodes.append(_stride_node(name, "input", 0, stride, rows))
        nodes.append(_stride_node(merged, "aggregation", column, stride, rows, "sum" if column > 1 else ""))
        nodes.append(_stride_node(level, "output", len(pool) + 1, stride, rows))
        edges.append(Edge(name, merged, "conv 1×1"))
        if column > 1:
            edges.append(Edge(f"m{int(level[1:]) + 1}", merged, "nearest ×2"))
        edges.append(Edge(merged, level, "conv 3×3"))
    nodes += _top_nodes(len(pool) + 1, rows)
    return Panel("FPN (original)", tuple(nodes), (*edges, *_top_edges()), rows=_row_labels(rows))


def _draw_head(genotype: HeadGenotype, operations: tuple[str, ...]) -> Panel:
    layers: list[tuple[str, NodeKind, bool]] = []
    for position, token in enumerate(genotype.operations):
        kind: NodeKind = "skip" if operations[token] == SKIP else "layer"
        layers.append((OPERATION_LABELS[operations[token]], kind, position >= genotype.share))
    shared = len(layers) - genotype.share
    note = f"Share index {genotype.share}: "
    if shared == len(layers):
        note += "all layers are shared by the five levels"
    elif shared:
        note += f"the first {genotype.share} of {len(layers)} layers have separate weights for each level"
    else:
        note += "every layer has separate weights for each level"
    return _towers("Head", layers, note)


def _draw_original_head() -> Panel:
    layers: list[tuple[str, NodeKind, bool]] = [("conv 3×3", "layer", True)] * _ORIGINAL_DEPTH
    return _towers("Head (original)", layers, "All layers are shared by the five levels")


def _towers(title: str, layers: list[tuple[str, NodeKind, bool]], note: str) -> Panel:
    """Two towers of the same layers, then the predictors, which all levels share."""
    nodes = [Node("levels", "P3 … P7", "input", 0, 1)]
    edges = []
    ends = {}
    for row, tower in ((0, "class"), (2, "box")):
        before = "levels"
        for column, (label, kind, shared) in enumerate(layers, start=1):
            # A skip has no weights to share.
            sharing = shared if kind == "layer" else None
            node = Node(f"{tower}.{column}", label, kind, column, row, shared=sharing)
            nodes.append(node)
            edges.append(Edge(before, node.id))
            before = node.id
        ends[tower] = before
    last = len(layers) + 1
    for name, tower, row in (("class", "class", 0), ("centerness", "class", 1), ("box", "box", 2)):
        nodes.append(Node(name, name, "predictor", last, row, detail="conv 3×3", shared=True))
        edges.append(Edge(ends[tower], name))
    notes = (f"{note}; the predictors are always shared.",)
    return Panel(title, tuple(nodes), tuple(edges), rows=("class tower", "", "box tower"), notes=notes)


def _stride_rows(pool: tuple[str, ...]) -> dict[int, int]:
    """Row of each stride, the coarsest on top."""
    strides = {*_TOP_STRIDES.values(), *LEVEL_STRIDES, *(POOL_STRIDES[name] for name in pool)}
    return {stride: row for row, stride in enumerate(sorted(strides, reverse=True))}


def _row_labels(rows: dict[int, int]) -> tuple[str, ...]:
    return tuple(f"stride {stride}" for stride in rows)


def _stride_node(
    name: str, kind: NodeKind, column: int, stride: int, rows: dict[int, int], detail: str = ""
) -> Node:
    return Node(name, name, kind, column, rows[stride], detail=detail, stride=stride)


def _top_nodes(column: int, rows: dict[int, int]) -> list[Node]:
    return [_stride_node(name, "output", column, stride, rows) for name, stride in _TOP_STRIDES.items()]


def _top_edges() -> list[Edge]:
    return [Edge("P5", "P6", _STRIDE_2), Edge("P6", "P7", f"ReLU, {_STRIDE_2}")]
