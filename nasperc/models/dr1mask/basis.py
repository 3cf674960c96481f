"""DR1Basis (thesis 5.4.2): an inverted pyramid of dynamic rank-1 convolutions, from the coarsest level to the finest.

Legend used in shapes: N images, C channels of the neck, D of the basis, L levels, s their strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.dr1mask.dr1_conv import Context, DR1Conv
from nasperc.models.features import FeatureSpec
from nasperc.ops.resize import resize_to, upsample_aligned


class DR1Basis(nn.Module):
    """``forward(levels, contexts, size) -> F (N, D, *size)``, at half the stride of the finest level.

    Equation 5.6 from the coarsest level on: F_l = DR1Conv(Conv3x3(P_l) + up2(F_(l + 1))), nothing coming from above at
    first. The 3x3 brings C channels to D and has nothing behind it, as the lateral convolution of an FPN.

    Where it ends: 5.6 stops at F_3, of stride 8, while 5.5.2 calls 4 the output stride. 5.4.2 explains both: "at each
    step l for l = 7, 6, ..., 3, it uses a DR1Conv to merge P_l and C_l and upsample the result by a factor of 2", so
    after the last step too. F is up2(F_3), of stride 4 on a pyramid from P3 on.

    Where its cells are: with aligned upsampling, cell (i, j) is at (4i, 4j) of the image, as that of a strided
    convolution; with the resized one its middle is at (4i + 2, 4j + 2). Boxes are cropped by the second rule in both,
    as from any level of a pyramid, whose cells are those of strided convolutions too: convolutions learn a shift.

    Args:
        levels: of the pyramid, from fine to coarse.
        width: D.
        upsampling: see :class:`DR1MaskRecipe`.

    Raises:
        InputError: the stride of a level is not twice that of the one before it.
    """

    def __init__(
        self, levels: Sequence[FeatureSpec], width: int, upsampling: Literal["aligned", "resized"]
    ) -> None:
        super().__init__()
        strides = [spec.stride for spec in levels]
        if any(after != 2 * before for before, after in pairwise(strides)):
            raise InputError(
                "DR1Mask needs a pyramid whose strides double from level to level",
                value=", ".join(f"{spec.name} of stride {spec.stride}" for spec in levels),
                where="neck",
                repair="Choose a neck without gaps, for example fpn-fcos.",
            )
        self.reduce = nn.ModuleList(_reducing_conv(spec.channels, width) for spec in levels)
        self.merge = nn.ModuleList(DR1Conv(width) for _ in levels)
        self._upsample = upsample_aligned if upsampling == "aligned" else resize_to
        self.stride = strides[0] // 2

    def forward(self, levels: Sequence[Tensor], contexts: Sequence[Context], size: tuple[int, int]) -> Tensor:
        """F of a batch.

        Args:
            levels: L of (N, C, H / s, W / s), rounded up, from fine to coarse.
            contexts: of each level.
            size: (H, W) of F.
        """
        basis: Tensor | None = None
        for level in reversed(range(len(levels))):
            x = self.reduce[level](levels[level])
            if basis is not None:
                x = x + self._upsample(basis, (x.shape[-2], x.shape[-1]))
            basis = self.merge[level](x, contexts[level])
        assert basis is not None
        return self._upsample(basis, size)


def _reducing_conv(in_channels: int, width: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, width, 3, padding=1)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
