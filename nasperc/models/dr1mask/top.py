"""The top layer of DR1Mask: what the instances say to the basis, and what they are known by (thesis 5.4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasperc.models.dr1mask.dr1_conv import Context
from nasperc.models.dr1mask.recipe import DR1MaskRecipe
from nasperc.models.features import Head, HeadOutput


class TopLayer(nn.Module):
    """``forward(neck levels, head output) -> (contexts, embeddings)``, each by level (equation 5.5).

    One 3x3 convolution for all levels, kept as the two parts of its outputs, since they may stand on different maps and
    the basis reads the contexts at every place, the embeddings are read where an object is.

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
            self.context = _convolution(channels, recipe.context_channels, bias=1.0)
        self.embedding = _convolution(head.out_channels, recipe.embedding_channels, bias=0.0)

    def forward(self, neck: Sequence[Tensor], output: HeadOutput) -> tuple[list[Context], Sequence[Tensor]]:
        """``neck``: the levels that the head looks at, (N, C, H, W). The embeddings: (N, E, H, W)."""
        places = {"neck": neck, "cls_tower": output.cls_tower, "box_tower": output.box_tower}
        contexts = [self._context(level) for level in places[self.context_on]]
        return contexts, [self.embedding(tower) for tower in output.box_tower]

    def _context(self, level: Tensor) -> Context:
        if self.context is None:
            return Context(None, None)
        context = self.context(level)
        if self.factors == "both":
            return Context(*context.chunk(2, dim=1))
        return Context(context, None) if self.factors == "A" else Context(None, context)


def _convolution(in_channels: int, out_channels: int, bias: float) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]
    return conv
