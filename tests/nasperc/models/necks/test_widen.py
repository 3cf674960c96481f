from __future__ import annotations

import pytest
import torch

from nasperc.errors import InputError
from nasperc.models.necks.widen import Widen


def test_each_channel_is_repeated_in_place() -> None:
    x = torch.arange(12.0).reshape(1, 2, 2, 3)
    wide = Widen(2, 6)(x)
    assert torch.equal(wide, x.repeat_interleave(3, dim=1))
    assert wide.is_contiguous(memory_format=torch.channels_last)


def test_equal_widths_cost_nothing() -> None:
    x = torch.randn(1, 4, 2, 2)
    assert Widen(4, 4)(x) is x
    assert not list(Widen(4, 8).parameters())


@pytest.mark.parametrize("out_channels", [96, 32])
def test_other_widths_are_refused(out_channels: int) -> None:
    with pytest.raises(InputError, match=f"neck 64, head {out_channels}"):
        Widen(64, out_channels)
