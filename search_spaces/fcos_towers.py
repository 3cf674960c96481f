"""The searched towers of the FCOS head: six operations, the last of them shared by all levels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from search_spaces.base import Tokens
from search_spaces.fcos_genotype import HeadGenotype, Variant
from search_spaces.operations import HEAD_OPERATIONS, build_operation, operation_name

LEVEL_COUNT = 5


class PerLevel(nn.ModuleList):
    """One layer for each level, with separate weights."""


class Tower(nn.Module):
    """A sequence of layers applied to every level; (N, C, H_l, W_l) each -> the same shapes."""

    def __init__(self, genotype: HeadGenotype, channels: int, variant: Variant) -> None:
        super().__init__()
        names = [HEAD_OPERATIONS[variant][token] for token in genotype.operations]
        self.layers = nn.ModuleList(
            PerLevel(build_operation(name, channels, "group") for _ in range(LEVEL_COUNT))
            if position < genotype.share
            else build_operation(name, channels, "group")
            for position, name in enumerate(names)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        for index, level in enumerate(levels):
            for layer in self.layers:
                level = layer[index](level) if isinstance(layer, PerLevel) else layer(level)
            outputs.append(level)
        return outputs


class SearchedTowers(nn.Module):
    """Separate classification and box towers of the same operations (NAS-FCOS release).

    Layers below the share index (the last of the head's tokens) have truly separate weights for each of the
    five levels, the others one set for all (thesis 7.3.2, "Searching for Head Weight Sharing").
    """

    def __init__(self, channels: int, genotype: HeadGenotype, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.out_channels = channels
        self.cls_tower = Tower(genotype, channels, variant)
        self.box_tower = Tower(genotype, channels, variant)

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return self.cls_tower(levels), self.box_tower(levels)

    def read_back(self) -> Tokens:
        """The seven tokens that the modules implement.

        Raises:
            ValueError: the towers differ, levels differ or share weights where they must not, a shared layer
                comes before a separate one, or a layer is none of the space's.
        """
        tokens = _read_tower(self.cls_tower, self.variant)
        if _read_tower(self.box_tower, self.variant) != tokens:
            raise ValueError("the two towers implement different operations")
        return tokens


def _read_tower(tower: Tower, variant: Variant) -> Tokens:
    operations = HEAD_OPERATIONS[variant]
    names, separate = [], []
    for layer in tower.layers:
        copies = list(layer) if isinstance(layer, PerLevel) else [layer]
        of_levels = {operation_name(copy) for copy in copies}
        parameters = [id(parameter) for copy in copies for parameter in copy.parameters()]
        if len(of_levels) > 1 or len(set(parameters)) < len(parameters):
            raise ValueError(f"the levels of {layer} must have the same operation and separate weights")
        names.append(of_levels.pop())
        separate.append(isinstance(layer, PerLevel))
    share = sum(separate)
    if any(separate[share:]):
        raise ValueError("a shared layer comes before a separate one")
    return HeadGenotype(tuple(operations.index(name) for name in names), share).tokens()
