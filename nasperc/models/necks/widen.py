"""More channels without parameters: from a narrow neck to a wider head."""

from __future__ import annotations

from torch import Tensor, nn

from nasperc.errors import InputError


class Widen(nn.Module):
    """(N, C, H, W) -> (N, k * C, H, W), each channel repeated k times in a row.

    Between a neck of 128 channels and a head of 256 (the "@128-256" rows of thesis Table 7.2, whose cost
    leaves nothing for a learned map).

    Raises:
        InputError: ``out_channels`` is not a multiple of ``in_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if out_channels < in_channels or out_channels % in_channels:
            raise InputError(
                "the head's width must be a multiple of the neck's",
                value=f"neck {in_channels}, head {out_channels}",
                where="decoder widths",
                repair=f"Choose {in_channels} or {2 * in_channels} channels for the head.",
            )
        self.repeats = out_channels // in_channels

    def forward(self, x: Tensor) -> Tensor:
        if self.repeats == 1:
            return x
        # Through channels-last: repeat_interleave on dim 1 would return the other memory format.
        n, c, h, w = x.shape
        repeated = x.permute(0, 2, 3, 1).unsqueeze(-1).expand(n, h, w, c, self.repeats)
        return repeated.reshape(n, h, w, c * self.repeats).permute(0, 3, 1, 2)
