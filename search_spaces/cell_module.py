"""The searched dynamic cell: basic blocks over what two frames offer (thesis 6.3.1 and 6.3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.errors import InputError
from nasperc.models.conv_layers import ConvNormReLU
from nasperc.models.features import FeatureSpec
from nasperc.models.video_segmenter import CellOutput, State
from nasperc.ops.resize import resize_to
from search_spaces.base import Tokens
from search_spaces.basic_block import BasicBlock
from search_spaces.cell_aggregations import CELL_AGGREGATIONS
from search_spaces.cell_genotype import CELL_INPUTS, POOL, CellGenotype
from search_spaces.operations import CELL_OPERATIONS


class SearchedCell(nn.Module):
    """Keeps the contract of :class:`nasperc.models.video_segmenter.VideoCell`.

    The thesis leaves the ends open; they are those of arch2's decoder. Each input that some block reads goes
    through 1x1 - BN - ReLU to ``width``. The results that nothing consumed are resized to 1/8 and concatenated;
    ReLU, then 1x1 - BN - ReLU to the channels of *dec* make the next *dec*, and a 3x3 convolution its logits.

    Args:
        inputs: the static network's ``layer2``, ``layer3``, ``layer4`` and ``dec``, found by their names.
        genotype: the architecture.
        width: channels of the blocks.
        num_classes: of the classifier, which starts from the static network's
            (:func:`nasperc.models.video_segmenter.initialise_classifier`).

    Raises:
        InputError: the static network does not offer these outputs at their strides.
    """

    def __init__(
        self, inputs: tuple[FeatureSpec, ...], genotype: CellGenotype, width: int, num_classes: int
    ) -> None:
        super().__init__()
        channels = _channels(inputs)
        self.adapters = nn.ModuleDict(
            {
                str(source): ConvNormReLU(channels[CELL_INPUTS[source].spec], width, 1)
                for source in range(POOL)
                if source in genotype.used
            }
        )
        self.blocks = nn.ModuleList(
            BasicBlock(block, width, CELL_OPERATIONS, CELL_AGGREGATIONS) for block in genotype.blocks
        )
        self.outputs = genotype.outputs
        self.project = ConvNormReLU(width * len(self.outputs), channels["dec"], 1)
        self.classifier = nn.Conv2d(channels["dec"], num_classes, 3, padding=1)

    def forward(self, state: State, levels: list[Tensor]) -> CellOutput:
        """``state`` of the frame before and layers 2, 3 and 4 of this one -> logits and *dec* of this one."""
        layer2, layer3, layer4 = levels
        # An input that nothing reads keeps its place in the pool, unadapted.
        pool = [
            self.adapters[str(source)](x) if str(source) in self.adapters else x
            for source, x in enumerate((state.layer4, state.dec, layer2, layer3, layer4))
        ]
        for block in self.blocks:
            first, second = block.sources  # type: ignore[misc]
            pool.append(block(pool[first], pool[second]))
        size = (state.dec.shape[2], state.dec.shape[3])
        results = [resize_to(pool[POOL + index], size) for index in self.outputs]
        dec = self.project(F.relu(torch.cat(results, 1)))
        return CellOutput(self.classifier(dec), dec)

    def read_back(self) -> Tokens:
        """The tokens that the modules and their connections implement.

        Raises:
            ValueError: a module is none of the space's; outputs or adapters are not those of the blocks.
        """
        tokens: Tokens = ()
        for block in self.blocks:
            assert isinstance(block, BasicBlock)
            tokens += block.read_back(CELL_OPERATIONS, CELL_AGGREGATIONS)
        genotype = CellGenotype.from_tokens(tokens)
        adapted = {int(source) for source in self.adapters}
        if genotype.outputs != self.outputs or adapted != {each for each in genotype.used if each < POOL}:
            raise ValueError(f"outputs {self.outputs} and inputs {sorted(adapted)} are not those of {tokens}")
        return tokens


def _channels(inputs: tuple[FeatureSpec, ...]) -> dict[str, int]:
    """Channels of each of the static network's outputs that a cell may read."""
    expected = {each.spec: each.stride for each in CELL_INPUTS}
    given = {spec.name: spec for spec in inputs}
    if any(name not in given or given[name].stride != stride for name, stride in expected.items()):
        raise InputError(
            "a dynamic cell needs layer2, layer3, layer4 and dec at strides 8, 16, 32 and 8",
            value=", ".join(f"{spec.name} of stride {spec.stride}" for spec in inputs) or "none",
            where="static network",
            repair="Build it on the cell_inputs of a static segmentation network.",
        )
    return {name: given[name].channels for name in expected}
