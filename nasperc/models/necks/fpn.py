"""Feature pyramid network (Lin et al. 2017) in FCOS's form: P3 to P7 from C3 to C5, or from P2 on, or to P6."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from nasperc.models.necks.top_levels import TopLevels
from nasperc.models.necks.widen import Widen

# The finest and the coarsest level of a pyramid: FCOS's is P3 to P7.
PyramidEnds = tuple[Literal[2, 3], Literal[6, 7]]
FCOS_ENDS: PyramidEnds = (3, 7)


class FPN(nn.Module):
    """``forward(features) -> [P3, P4, P5, P6, P7]``, strides 8 to 128; more or fewer by ``ends``.

    Lateral 1x1, nearest x2 and sum from the top down, a 3x3 for each output; P6 and P7 by :class:`TopLevels`.
    Features of other strides (C2) may be among ``inputs`` and are ignored.

    Args:
        inputs: the backbone's features, in the order in which ``forward`` gets them.
        width: channels of the pyramid.
        out_width: channels of the levels where they differ: P3 to P5 are widened without parameters, P6 and
            P7 are made at ``out_width``.
        ends: the finest and the coarsest level; with P2 the pyramid reads C2 too.

    Raises:
        InputError: a feature of stride 8, 16 or 32 (4 with P2) is missing; ``out_width`` is not a multiple of
            ``width``.
    """

    def __init__(
        self,
        inputs: tuple[FeatureSpec, ...],
        width: int,
        out_width: int | None = None,
        ends: PyramidEnds = FCOS_ENDS,
    ) -> None:
        super().__init__()
        finest, coarsest = ends
        merged = range(finest, 6)
        by_stride = {spec.stride: index for index, spec in enumerate(inputs)}
        if any(2**level not in by_stride for level in merged):
            strides = ", ".join(str(2**level) for level in merged[:-1])
            raise InputError(
                f"an FPN from P{finest} on needs backbone features of strides {strides} and 32",
                value=", ".join(f"{spec.name} (stride {spec.stride})" for spec in inputs),
                where="neck",
                repair=f"Choose a backbone that offers C{finest} to C5.",
            )
        out_width = width if out_width is None else out_width
        self.used = tuple(by_stride[2**level] for level in merged)
        self.lateral = nn.ModuleList(nn.Conv2d(inputs[index].channels, width, 1) for index in self.used)
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in merged)
        for conv in (*self.lateral, *self.output):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)
        self.widen = Widen(width, out_width)
        self.top = TopLevels(out_width, p7=coarsest == 7)
        self.out: tuple[FeatureSpec, ...] = tuple(
            FeatureSpec(f"P{level}", out_width, 2**level) for level in range(finest, coarsest + 1)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        laterals = [conv(features[index]) for conv, index in zip(self.lateral, self.used, strict=True)]
        merged = laterals[-1]
        pyramid = [self.output[-1](merged)]
        for lateral, output in zip(reversed(laterals[:-1]), reversed(self.output[:-1]), strict=True):
            merged = lateral + _upsample(merged, lateral)
            pyramid.insert(0, output(merged))
        levels = [self.widen(level) for level in pyramid]
        return [*levels, *self.top(levels[-1])]


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    """Nearest x2, cropped: a level of odd size has no exact double."""
    height, width = like.shape[-2:]
    return F.interpolate(x, scale_factor=2.0, mode="nearest")[..., :height, :width]
