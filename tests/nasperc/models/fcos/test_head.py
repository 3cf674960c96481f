from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.fcos.head import FCOSHead
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.features import FeatureSpec
from nasperc.models.normalisation import GroupNorm

LEVELS = tuple(FeatureSpec(f"P{level}", 4, 2**level) for level in range(3, 8))


class TwoScales(nn.Module):
    """Towers that can be told apart: the class tower is the input, the box tower 10 times it."""

    out_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.searched = nn.Parameter(torch.full((1,), 7.0))

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return levels, [10 * level for level in levels]


def head(preset: str) -> FCOSHead:
    torch.manual_seed(0)
    built = FCOSHead(TwoScales(), 2, PRESETS[preset], LEVELS)
    assert built.scales is not None
    with torch.no_grad():
        built.scales.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
        built.box.bias.copy_(torch.tensor([0.1, -0.2, 0.3, -0.4]))
    return built


def levels() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(1, 4, 3, 3) for _ in LEVELS]


def test_nas_fcos_boxes_are_exponentials_in_pixels() -> None:
    built, given = head("nas_fcos"), levels()
    output = built(given)
    for level, x in enumerate(given):
        torch.testing.assert_close(output.boxes[level], torch.exp((level + 1) * built.box(10 * x)))
        torch.testing.assert_close(output.centerness[level], built.centerness(x))
        torch.testing.assert_close(output.class_logits[level], built.class_logits(x))


def test_adelaidet_boxes_are_rectified_in_strides() -> None:
    built, given = head("adelaidet"), levels()
    output = built(given)
    for level, x in enumerate(given):
        wanted = ((level + 1) * built.box(10 * x)).clamp(min=0) * 2 ** (3 + level)
        torch.testing.assert_close(output.boxes[level], wanted)
        torch.testing.assert_close(output.centerness[level], built.centerness(10 * x))


def test_without_level_scales() -> None:
    preset = PRESETS["adelaidet"].model_copy(update={"level_scales": False})
    built = FCOSHead(TwoScales(), 2, preset, LEVELS)
    assert built.scales is None
    assert not [name for name, _ in built.named_parameters() if "scale" in name]
    torch.testing.assert_close(built(levels())[3][0], built.box(10 * levels()[0]).clamp(min=0) * 8)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_initialisation(preset: str) -> None:
    towers = FCOSTowers(32, 32, 2)
    built = FCOSHead(towers, 2, PRESETS[preset], LEVELS)
    assert built.scales is not None
    assert built.scales.tolist() == [1.0] * 5
    torch.testing.assert_close(built.class_logits.bias.sigmoid(), torch.full((2,), 0.01))
    for conv in (towers.cls_tower[0], towers.box_tower[3], built.class_logits, built.box):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert built.box.bias.abs().sum() == 0
    searched = FCOSHead(TwoScales(), 2, PRESETS["nas_fcos"], LEVELS).towers.searched
    assert torch.equal(searched, torch.tensor([7.0]))


def test_towers_share_weights_between_levels_but_not_between_tasks() -> None:
    towers = FCOSTowers(32, 64, 4)
    # 4 convolutions with bias and GroupNorm, twice, whatever the number of levels.
    one = (32 * 64 * 9 + 64 + 128) + 3 * (64 * 64 * 9 + 64 + 128)
    assert sum(p.numel() for p in towers.parameters()) == 2 * one
    assert [type(m) for m in towers.cls_tower] == [nn.Conv2d, GroupNorm, nn.ReLU] * 4


def test_a_merged_tower_serves_class_and_box() -> None:
    merged, two = FCOSTowers(4, 32, 3, merged=True), FCOSTowers(4, 32, 3)
    cls_tower, box_tower = merged(levels())
    assert all(one is other for one, other in zip(cls_tower, box_tower, strict=True))
    assert 2 * sum(p.numel() for p in merged.parameters()) == sum(p.numel() for p in two.parameters())


@pytest.mark.parametrize(("width", "depth"), [(48, 4), (64, 0)])
def test_impossible_towers_are_refused(width: int, depth: int) -> None:
    with pytest.raises(InputError, match=f"width {width}, depth {depth}"):
        FCOSTowers(32, width, depth)


def test_sizes_of_interest_must_match_the_levels() -> None:
    with pytest.raises(InputError, match="5 sizes, 4 levels"):
        FCOSHead(TwoScales(), 2, PRESETS["nas_fcos"], LEVELS[:4])
