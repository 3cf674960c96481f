"""A basic block as a module (thesis 6.3.2 and 7.3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.block import Block
from search_spaces.operations import build_operation, operation_name


class BasicBlock(nn.Module):
    """bb_t: an operation on each of two features of the pool, then an aggregation.

    ``sources``: the two pool ids that its owner feeds it.

    Args:
        block: indices into the two tables.
        channels: of what it reads and gives.
        operations: names.
        aggregations: classes, built with the number of channels.
    """

    def __init__(
        self,
        block: Block,
        channels: int,
        operations: tuple[str, ...],
        aggregations: tuple[type[nn.Module], ...],
    ) -> None:
        super().__init__()
        self.sources = (block.id1, block.id2)
        self.op1 = build_operation(operations[block.op1], channels, "batch")
        self.op2 = build_operation(operations[block.op2], channels, "batch")
        self.aggregation = aggregations[block.agg](channels)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.aggregation(self.op1(x1), self.op2(x2))

    def read_back(self, operations: tuple[str, ...], aggregations: tuple[type[nn.Module], ...]) -> Block:
        """The block that the modules implement.

        Raises:
            ValueError: a module is none of the tables'.
        """
        op1, op2 = (operations.index(operation_name(op)) for op in (self.op1, self.op2))
        return Block(*self.sources, op1, op2, aggregations.index(type(self.aggregation)))
