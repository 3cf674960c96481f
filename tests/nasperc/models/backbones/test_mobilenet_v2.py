from __future__ import annotations

import pytest
import torch
from torch import nn

from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.features import FeatureSpec


def test_features_of_the_full_width() -> None:
    assert MobileNetV2().out == (
        FeatureSpec("C2", 24, 4),
        FeatureSpec("C3", 32, 8),
        FeatureSpec("C4", 96, 16),
        FeatureSpec("C5", 320, 32),
    )


def test_parameters_are_torchvisions() -> None:
    backbone = MobileNetV2(frozen_bn=False)
    # torchvision's mobilenet_v2 has 3,504,872, with the 1x1 to 1280, its BatchNorm and the classifier.
    last_and_classifier = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(p.numel() for p in backbone.parameters()) == 3_504_872 - last_and_classifier
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    assert shapes["features.0.0.weight"] == (32, 3, 3, 3)
    assert shapes["features.1.conv.0.0.weight"] == (32, 1, 3, 3)
    assert shapes["features.1.conv.1.weight"] == (16, 32, 1, 1)
    assert shapes["features.17.conv.0.0.weight"] == (960, 160, 1, 1)
    assert shapes["features.17.conv.1.1.running_var"] == (960,)
    assert shapes["features.17.conv.3.bias"] == (320,)


@pytest.mark.parametrize("frozen_bn", [True, False])
def test_batch_norm_kind_does_not_change_the_names(frozen_bn: bool) -> None:
    keys = {key for key in MobileNetV2(frozen_bn=frozen_bn).state_dict() if "num_batches" not in key}
    assert len(keys) == 51 * 5  # 51 convolutions, each with its BatchNorm


def test_a_block_with_a_shortcut_adds_its_input() -> None:
    block = MobileNetV2(width_mult=0.25).features[3]
    nn.init.zeros_(block.conv[2].weight)
    channels = block.conv[2].out_channels
    x = torch.randn(1, channels, 4, 4)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(("freeze_at", "first_trained"), [(0, 0), (1, 1), (2, 2), (3, 4), (8, 18)])
def test_frozen_stages_take_no_gradient(freeze_at: int, first_trained: int) -> None:
    backbone = MobileNetV2(width_mult=0.25, freeze_at=freeze_at, frozen_bn=False)
    for index, module in enumerate(backbone.features):
        assert all(p.requires_grad == (index >= first_trained) for p in module.parameters())


def test_statistics_of_frozen_stages_do_not_move() -> None:
    backbone = MobileNetV2(width_mult=0.25, freeze_at=2, frozen_bn=False).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64) + 1)
    after = backbone.state_dict()
    moved = {key.split(".")[1] for key in before if not torch.equal(after[key], before[key])}
    assert moved == {str(index) for index in range(2, 18)}


def test_widths_are_multiples_of_8() -> None:
    assert [spec.channels for spec in MobileNetV2(width_mult=0.5).out] == [16, 16, 48, 160]


def test_freeze_at_beyond_the_last_stage_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.8"):
        MobileNetV2(width_mult=0.25, freeze_at=9)
