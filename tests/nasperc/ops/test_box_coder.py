from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasperc.ops.box_coder import decode_boxes, encode_boxes

coordinate = st.floats(-1000, 1000, width=32)
side = st.floats(1, 1000, width=32)


@st.composite
def boxes(draw: st.DrawFn) -> Tensor:
    x, y, width, height = draw(coordinate), draw(coordinate), draw(side), draw(side)
    return torch.tensor([[x, y, x + width, y + height]], dtype=torch.float64)


def test_by_hand() -> None:
    reference = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # centre (20, 40), 20 x 40
    box = torch.tensor([[15.0, 30.0, 35.0, 50.0]])  # centre (25, 40), 20 x 20
    wanted = torch.tensor([[5 / 20, 0.0, 0.0, math.log(20 / 40)]])
    torch.testing.assert_close(encode_boxes(box, reference), wanted)


@settings(deadline=None)
@given(boxes(), boxes())
def test_decoding_inverts_encoding(box: Tensor, reference: Tensor) -> None:
    deltas = encode_boxes(box, reference)
    if (deltas[:, 2:] < math.log(1000 / 16)).all():
        torch.testing.assert_close(decode_boxes(deltas, reference), box, rtol=1e-9, atol=1e-6)


def test_no_change_is_all_zeros() -> None:
    box = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert torch.equal(encode_boxes(box, box), torch.zeros(1, 4))
    assert torch.equal(decode_boxes(torch.zeros(1, 4), box), box)


def test_growth_is_cut_off() -> None:
    box = decode_boxes(torch.tensor([[0.0, 0.0, 50.0, 50.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    assert (box[0, 2] - box[0, 0]).item() == pytest.approx(1000)
