from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from nasperc.models.necks.fpn import FPN

C3, C4, C5 = FeatureSpec("C3", 8, 8), FeatureSpec("C4", 12, 16), FeatureSpec("C5", 16, 32)


def slow_fpn(neck: FPN, c3: Tensor, c4: Tensor, c5: Tensor) -> list[Tensor]:
    """Written out level by level; the upsampling looks up row i // 2, column j // 2."""

    def upsample(x: Tensor, like: Tensor) -> Tensor:
        rows, columns = (torch.arange(n) // 2 for n in like.shape[-2:])
        return x[..., rows[:, None], columns]

    l3, l4, l5 = (conv(x) for conv, x in zip(neck.lateral, (c3, c4, c5), strict=True))
    m4 = l4 + upsample(l5, l4)
    m3 = l3 + upsample(m4, l3)
    p3, p4, p5 = (conv(x) for conv, x in zip(neck.output, (m3, m4, l5), strict=True))
    p6 = F.conv2d(p5, neck.top.p6.weight, neck.top.p6.bias, stride=2, padding=1)
    p7 = F.conv2d(p6.clamp(min=0), neck.top.p7.weight, neck.top.p7.bias, stride=2, padding=1)
    return [p3, p4, p5, p6, p7]


@pytest.mark.parametrize("sizes", [((8, 12), (4, 6), (2, 3)), ((9, 13), (5, 7), (3, 4))])
def test_it_agrees_with_the_written_out_one(sizes: tuple[tuple[int, int], ...]) -> None:
    torch.manual_seed(0)
    neck = FPN((C3, C4, C5), 4)
    given = [torch.randn(2, spec.channels, *size) for spec, size in zip((C3, C4, C5), sizes, strict=True)]
    for level, wanted in zip(neck(given), slow_fpn(neck, *given), strict=True):
        torch.testing.assert_close(level, wanted)


def test_inputs_are_told_apart_by_stride_and_others_ignored() -> None:
    torch.manual_seed(0)
    neck = FPN((C5, FeatureSpec("C2", 5, 4), C3, C4), 4)
    c2, c3, c4, c5 = (torch.randn(1, c, s, s) for c, s in ((5, 16), (8, 8), (12, 4), (16, 2)))
    for level, wanted in zip(neck([c5, c2, c3, c4]), slow_fpn(neck, c3, c4, c5), strict=True):
        torch.testing.assert_close(level, wanted)


def test_a_wider_head_gets_each_channel_twice() -> None:
    torch.manual_seed(0)
    neck = FPN((C3, C4, C5), 4, 8)
    levels = neck([torch.randn(1, c, s, s) for c, s in ((8, 8), (12, 4), (16, 2))])
    assert [spec.channels for spec in neck.out] == [8] * 5
    for level in levels[:3]:
        assert torch.equal(level[:, 0::2], level[:, 1::2])
    assert neck.top.p6.weight.shape[:2] == (8, 8)


def test_a_missing_stride_is_refused() -> None:
    with pytest.raises(InputError, match=r"strides 8, 16 and 32.*C3 \(stride 8\), C5"):
        FPN((C3, C5), 4)


def test_a_head_narrower_than_the_neck_is_refused() -> None:
    with pytest.raises(InputError, match="multiple"):
        FPN((C3, C4, C5), 8, 4)


def test_from_p2_on_the_other_levels_stay_what_they_are() -> None:
    c2 = FeatureSpec("C2", 5, 4)
    torch.manual_seed(0)
    neck = FPN((c2, C3, C4, C5), 4, ends=(2, 7))
    assert [(spec.name, spec.stride) for spec in neck.out] == [
        (f"P{level}", 2**level) for level in range(2, 8)
    ]
    given = [torch.randn(1, c, s, s) for c, s in ((5, 16), (8, 8), (12, 4), (16, 2))]
    p2, *others = neck(given)
    from_p3 = FPN((C3, C4, C5), 4)
    weights = {
        name: value
        for name, value in neck.state_dict().items()
        if not name.startswith(("lateral.0", "output.0"))
    }
    from_p3.load_state_dict(
        {
            ".".join((part, str(int(index) - 1), *rest)) if part in ("lateral", "output") else name: value
            for name, value in weights.items()
            for part, index, *rest in [name.split(".")]
        }
    )
    for level, wanted in zip(others, from_p3(given[1:]), strict=True):
        torch.testing.assert_close(level, wanted)
    assert p2.shape == (1, 4, 16, 16)
    finer = given[0] + 1
    assert not torch.equal(neck([finer, *given[1:]])[0], p2)


def test_without_p7_p6_is_the_last() -> None:
    neck = FPN((C3, C4, C5), 4, ends=(3, 6))
    levels = neck([torch.randn(1, c, s, s) for c, s in ((8, 8), (12, 4), (16, 2))])
    assert [spec.name for spec in neck.out] == ["P3", "P4", "P5", "P6"]
    assert [level.shape[-1] for level in levels] == [8, 4, 2, 1]
    assert not [name for name, _ in neck.named_parameters() if "p7" in name]


def test_p2_needs_c2() -> None:
    with pytest.raises(InputError, match=r"from P2 on .*strides 4, 8, 16 and 32.*C2 to C5"):
        FPN((C3, C4, C5), 4, ends=(2, 7))
