"""The FPN of DeformFPN-FCOS (thesis 7.4.3, "Impact of Deformable Convolution")."""

from __future__ import annotations

from torch import nn

from nasperc.models.features import FeatureSpec
from nasperc.models.necks.fpn import FCOS_ENDS, FPN, PyramidEnds
from nasperc.ops.deform_conv import DeformConv2d


class DeformFPN(FPN):
    """:class:`FPN` in which two deformable 3x3 convolutions in a row stand for each 3x3 convolution.

    "We also replace the whole standard 3x3 convolutions with deformable 3x3 convolutions in FPN structure of the
    original FCOS and repeat them twice": read here as the outputs of P3 to P5 and the two that make P6 and P7,
    which keep their stride in the first of the two. As in the FPN, nothing stands between or behind them. At 256
    channels on ResNet-50 this costs 185.1 GFLOPs and 36.2 M parameters; NAS-FCOS@256, which it was made "nearly equal"
    to, 189.6 and 38.4.

    Arguments and errors: as :class:`FPN`.
    """

    def __init__(
        self,
        inputs: tuple[FeatureSpec, ...],
        width: int,
        out_width: int | None = None,
        ends: PyramidEnds = FCOS_ENDS,
    ) -> None:
        super().__init__(inputs, width, out_width, ends)
        top_width = self.out[-1].channels
        self.output = nn.ModuleList(_deformable_pair(width) for _ in self.output)
        self.top.p6 = _deformable_pair(top_width, stride=2)
        if self.top.p7 is not None:
            self.top.p7 = _deformable_pair(top_width, stride=2)


def _deformable_pair(channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(DeformConv2d(channels, channels, stride=stride), DeformConv2d(channels, channels))
