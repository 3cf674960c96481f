"""The top layer of DR1Mask: what the instances say to the basis, and what they are known by (thesis 5.4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasperc.models.dr1mask.dr1_conv import Context
from nasperc.models.dr1mask.recipe import DR1MaskRecipe
from nasperc.models.features import Head, HeadOutput
from nasperc.models.gather import ConvMaps
from nasperc.ops.patch_conv import PatchConv2d


class TopLayer(nn.Module):
    """``forward(neck levels, head output) -> (contexts, embeddings)``, each by level (equation 5.5).

    One 3x3 convolution for all levels, in two parts: its contexts may stand on other maps, and the basis reads them at
    every place, while embeddings are computed where an object is looked for.

    Args:
        head: the detection head.
        recipe: which factors there are, from where, and the embedding.
    """

    def __init__(self, head: Head, recipe: DR1MaskRecipe) -> None:
        super().__init__()
        self.factors, self.context_on = recipe.factors, recipe.context_on
        self.context: nn.Conv2d | None = None
        if recipe.context_channels:
            channels = head.levels[0].channels if self.context_on == "neck" else head.out_channels
            # Factors start near 1: five levels of factors near 0 would multiply the basis away.
            self.context = nn.Conv2d(channels, recipe.context_channels, 3, padding=1)
            _initialise(self.context, bias=1.0)
        self.embedding = PatchConv2d(head.out_channels, recipe.embedding_channels, 3)
        _initialise(self.embedding, bias=0.0)

    def forward(self, neck: Sequence[Tensor], output: HeadOutput) -> tuple[list[Context], ConvMaps]:
        """``neck``: the levels that the head looks at, (N, C, H, W). The embeddings: (N, E, H, W)."""
        places = {"neck": neck, "cls_tower": output.cls_tower, "box_tower": output.box_tower}
        contexts = [self._context(level) for level in places[self.context_on]]
        return contexts, ConvMaps(output.box_tower, self.embedding)

    def _context(self, level: Tensor) -> Context:
        if self.context is None:
            return Context(None, None)
        context = self.context(level)
        if self.factors == "both":
            return Context(*context.chunk(2, dim=1))
        return Context(context, None) if self.factors == "A" else Context(None, context)


def _initialise(conv: nn.Conv2d, bias: float) -> None:
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]
