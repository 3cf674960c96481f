"""The diagram of a dynamic cell, after Fig. 6.7 of the thesis."""

from __future__ import annotations

from search_spaces.cell_aggregations import CELL_AGGREGATION_LABELS
from search_spaces.cell_genotype import CELL_INPUTS, OUTPUT_STRIDE, POOL, CellGenotype
from search_spaces.diagram import Diagram, Edge, Node, Panel
from search_spaces.operations import CELL_OPERATIONS, OPERATION_LABELS

# From the top; the frame before lies around this one, since its inputs are of the coarsest and the finest stride.
_ROWS = ("frame before", "stride 32", "stride 16", "stride 8", "frame before")
_ROW_OF_STRIDE = {32: 1, 16: 2, 8: 3}
_ROW_OF_PREVIOUS = {32: 0, 8: 4}


def draw_cell(title: str, genotype: CellGenotype) -> Diagram:
    """A block stands in the row of its result's stride, right of all that it reads."""
    nodes = []
    for source, each in enumerate(CELL_INPUTS):
        row = (_ROW_OF_PREVIOUS if each.previous else _ROW_OF_STRIDE)[each.stride]
        detail = "" if source in genotype.used else "not used"
        nodes.append(Node(each.name, each.name, "input", 0, row, detail, each.stride))
    edges = []
    strides = genotype.strides()
    taken: set[tuple[int, int]] = set()
    for index, block in enumerate(genotype.blocks):
        row = _ROW_OF_STRIDE[strides[index]]
        column = 1 + max(nodes[block.id1].column, nodes[block.id2].column)
        while (column, row) in taken:
            column += 1
        taken.add((column, row))
        name = genotype.source_name(POOL + index)
        detail = CELL_AGGREGATION_LABELS[block.agg]
        nodes.append(Node(name, name, "aggregation", column, row, detail, strides[index]))
        for source, operation in ((block.id1, block.op1), (block.id2, block.op2)):
            label = OPERATION_LABELS[CELL_OPERATIONS[operation]]
            edges.append(Edge(genotype.source_name(source), name, label))
    last, row = 1 + max(node.column for node in nodes), _ROW_OF_STRIDE[OUTPUT_STRIDE]
    nodes.append(Node("dec", "dec", "output", last, row, "concat, conv 1×1", OUTPUT_STRIDE))
    nodes.append(Node("pred", "pred", "predictor", last + 1, row, "conv 3×3"))
    for index in genotype.outputs:
        resized = "" if strides[index] == OUTPUT_STRIDE else "resize"
        edges.append(Edge(genotype.source_name(POOL + index), "dec", resized))
    edges.append(Edge("dec", "pred"))
    notes = ("dec is the previous dec of the next frame. The operands of an aggregation are in order.",)
    return Diagram(title, (Panel("Dynamic cell", tuple(nodes), tuple(edges), _ROWS, notes),))
