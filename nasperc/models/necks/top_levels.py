"""The coarsest levels of the pyramid, made from P5."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class TopLevels(nn.Module):
    """``forward(P5 (N, C, H, W)) -> (P6, P7)``: P6 = conv(P5), P7 = conv(relu(P6)); 3x3, stride 2, with bias.

    FCOS's form, kept by the NAS-FCOS release (thesis 7.3.2). ``p7`` False: P6 alone (thesis 4.4.2, BlendMask-RT).
    """

    def __init__(self, width: int, *, p7: bool = True) -> None:
        super().__init__()
        self.p6: nn.Module = _halving_conv(width)
        self.p7: nn.Module | None = _halving_conv(width) if p7 else None

    def forward(self, p5: Tensor) -> tuple[Tensor, ...]:
        p6 = self.p6(p5)
        return (p6,) if self.p7 is None else (p6, self.p7(F.relu(p6)))


def _halving_conv(width: int) -> nn.Conv2d:
    conv = nn.Conv2d(width, width, 3, stride=2, padding=1)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
