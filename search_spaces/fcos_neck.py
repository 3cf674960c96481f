"""The searched FPN: seven basic blocks over a growing pool of features (thesis 7.3.2, NAS-FCOS release)."""

from __future__ import annotations

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.conv_layers import ConvNormReLU
from nasperc.models.features import FeatureSpec
from nasperc.models.necks.top_levels import TopLevels
from nasperc.models.necks.widen import Widen
from nasperc.ops.resize import resize_to
from search_spaces.aggregations import AGGREGATIONS
from search_spaces.base import Tokens
from search_spaces.basic_block import BasicBlock
from search_spaces.fcos_genotype import LEVEL_STRIDES, LEVELS, POOL_STRIDES, FPNGenotype
from search_spaces.operations import FPN_OPERATIONS

Size = tuple[int, int]


class SearchedFPN(nn.Module):
    """Backbone features -> P3..P7, by the 35 tokens of the part ``fpn``.

    P6 and P7 come from P5 by 3x3 convolutions of stride 2. Where ``out_width`` differs from ``width``, P3..P5
    are widened without parameters before that.

    Args:
        inputs: backbone features, in the order in which ``forward`` gets them; those of other strides than
            the variant's pool are not used.
        genotype: the architecture.
        width: channels of the blocks.
        out_width: channels of P3..P7.

    Raises:
        InputError: the backbone does not offer exactly one feature for each stride of the pool.
    """

    def __init__(
        self, inputs: tuple[FeatureSpec, ...], genotype: FPNGenotype, width: int, out_width: int
    ) -> None:
        super().__init__()
        self.variant = genotype.variant
        self.input_indices = tuple(_find_stride(inputs, name) for name in genotype.pool)
        self.adapters = nn.ModuleList(
            ConvNormReLU(inputs[index].channels, width, 1) for index in self.input_indices
        )
        self.blocks = nn.ModuleList(
            BasicBlock(block, width, FPN_OPERATIONS, AGGREGATIONS[genotype.variant])
            for block in genotype.blocks
        )
        self.outputs, self.dangling = genotype.outputs, genotype.dangling
        # The release computes adapters that nothing reads; only a count of its cost needs that.
        self.run_unused_adapters = False
        self._used = {source for block in genotype.blocks for source in (block.id1, block.id2)}
        self.widen = Widen(width, out_width)
        self.top_levels = TopLevels(out_width)
        strides = (*LEVEL_STRIDES, 2 * LEVEL_STRIDES[-1], 4 * LEVEL_STRIDES[-1])
        self.out = tuple(
            FeatureSpec(name, out_width, stride)
            for name, stride in zip((*LEVELS, "P6", "P7"), strides, strict=True)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """``features`` (N, C_i, H_i, W_i) as ``inputs`` -> P3..P7 (N, out_width, H / s, W / s)."""
        selected = [features[index] for index in self.input_indices]
        # An unread feature keeps its place in the pool, unadapted.
        pool = [
            adapter(feature) if self.run_unused_adapters or source in self._used else feature
            for source, (adapter, feature) in enumerate(zip(self.adapters, selected, strict=True))
        ]
        for block in self.blocks:
            first, second = block.sources  # type: ignore[misc]
            pool.append(block(pool[first], pool[second]))
        blocks = pool[len(selected) :]
        sizes = [_size(feature) for feature in selected[-len(LEVELS) :]]
        levels = [
            self.widen(resize_to(self._merge_dangling(blocks, index), size))
            for index, size in zip(self.outputs, sizes, strict=True)
        ]
        return [*levels, *self.top_levels(levels[-1])]

    def _merge_dangling(self, blocks: list[Tensor], output: int) -> Tensor:
        """Equation 7.1, at the output's own resolution (release) or the largest of all (``thesis``)."""
        size = _size(blocks[output])
        if self.variant == "thesis":
            # All at once: upsampling in steps would make the sum depend on the order of the blocks.
            size = max([size, *(_size(blocks[index]) for index in self.dangling)])
        merged = resize_to(blocks[output], size)
        for index in self.dangling:
            merged = merged + resize_to(blocks[index], size)
        return merged

    def read_back(self) -> Tokens:
        """The 35 tokens that the modules and their connections implement.

        Raises:
            ValueError: a module is none of the space's, or outputs and dangling blocks are not those of the
                blocks.
        """
        tokens: Tokens = ()
        for block in self.blocks:
            assert isinstance(block, BasicBlock)
            tokens += block.read_back(FPN_OPERATIONS, AGGREGATIONS[self.variant])
        genotype = FPNGenotype.from_tokens(tokens, self.variant)
        if (genotype.outputs, genotype.dangling) != (self.outputs, self.dangling):
            raise ValueError(f"levels {self.outputs} and dangling {self.dangling} are not those of {tokens}")
        return tokens


def _find_stride(inputs: tuple[FeatureSpec, ...], name: str) -> int:
    matches = [index for index, spec in enumerate(inputs) if spec.stride == POOL_STRIDES[name]]
    if len(matches) != 1:
        raise InputError(
            f"the searched FPN needs one backbone feature of stride {POOL_STRIDES[name]} ({name})",
            value=", ".join(f"{spec.name} of stride {spec.stride}" for spec in inputs) or "none",
            where="backbone features",
            repair="Choose a backbone (or levels of it) with the strides of the space's pool.",
        )
    return matches[0]


def _size(feature: Tensor) -> Size:
    return feature.shape[-2], feature.shape[-1]
