from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.backbones.resnet import RESNETS, ResNet, ResNetShape
from nasperc.models.features import FeatureSpec
from nasperc.ops.deform_conv import DeformConv2d

TINY = ResNetShape((1, 2, 1, 1))


def reference(state: dict[str, Tensor], images: Tensor, stride_in: str, groups: int = 1) -> list[Tensor]:
    """C2 to C5, read off a torchvision state dict name by name."""

    def conv_norm(x: Tensor, conv: str, norm: str, stride: int, groups: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        mean, var, scale, shift = (
            state[f"{norm}.{key}"].view(1, -1, 1, 1)
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = F.max_pool2d(conv_norm(images, "conv1", "bn1", 2).relu(), 3, 2, 1)
    features = []
    for layer in range(1, 5):
        for block in range(sum(f"layer{layer}.{b}.conv1.weight" in state for b in range(50))):
            name = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            if f"{name}.conv3.weight" in state:
                strides = (stride, 1, 1) if stride_in == "1x1" else (1, stride, 1)
            else:
                strides = (stride, 1)
            y = x
            for index, each in enumerate(strides, start=1):
                parts = groups if len(strides) == 3 and index == 2 else 1
                y = conv_norm(y, f"{name}.conv{index}", f"{name}.bn{index}", each, parts)
                y = y.relu() if index < len(strides) else y
            if f"{name}.downsample.0.weight" in state:
                x = conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = (x + y).relu()
        features.append(x)
    return features


def randomise_norms(backbone: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in backbone.state_dict().items():
        if name.endswith(("running_mean", "running_var")) or ("bn" in name and tensor.ndim == 1):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


@pytest.mark.parametrize(
    ("shape", "stride_in"),
    [
        (TINY, "1x1"),
        (TINY, "3x3"),
        (RESNETS["resnet18"], "3x3"),
        (ResNetShape((1, 1, 2, 1), groups=4, width_per_group=8), "3x3"),
    ],
)
def test_features_are_those_of_a_network_read_off_the_names(shape: ResNetShape, stride_in: str) -> None:
    torch.manual_seed(0)
    backbone = ResNet(shape, stride_in=stride_in).eval()
    randomise_norms(backbone)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        wanted = reference(backbone.state_dict(), images, stride_in, shape.groups)
        for got, want in zip(backbone(images), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


# torchvision's documented num_params, its classifier of 1000 classes included.
@pytest.mark.parametrize(
    ("name", "num_params"),
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnext101_64x4d", 83_455_272),
    ],
)
def test_parameters_are_torchvisions(name: str, num_params: int) -> None:
    with torch.device("meta"):
        backbone = ResNet(RESNETS[name], frozen_bn=False)
    classifier = (backbone.out[-1].channels + 1) * 1000
    assert sum(p.numel() for p in backbone.parameters()) == num_params - classifier


def test_names_are_torchvisions() -> None:
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in ResNet(RESNETS["resnext101_64x4d"]).state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["bn1.running_mean"] == (64,)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer1.0.downsample.1.running_var"] == (256,)
    assert shapes["layer3.22.conv2.weight"] == (1024, 16, 3, 3)
    assert shapes["layer4.2.bn3.bias"] == (2048,)
    assert len(shapes) == 5 * (1 + 33 * 3 + 4)  # each convolution and the four arrays of its BatchNorm


def test_features_of_both_kinds_of_block() -> None:
    assert [spec.channels for spec in ResNet(RESNETS["resnet18"]).out] == [64, 128, 256, 512]
    assert ResNet(TINY).out == tuple(FeatureSpec(f"C{i}", 64 * 2**i, 2**i) for i in range(2, 6))


@pytest.mark.parametrize("freeze_at", range(6))
def test_frozen_stages_take_no_gradient_and_keep_their_statistics(freeze_at: int) -> None:
    backbone = ResNet(TINY, freeze_at=freeze_at, frozen_bn=False).train()
    stages = [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)]
    frozen = {name for stage in stages[:freeze_at] for name in stage}
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (name.split(".")[0] not in frozen)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64) + 1)
    moved = {k.split(".")[0] for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"bn1", "layer1", "layer2", "layer3", "layer4"} - frozen


def test_every_second_bottleneck_of_the_stages_is_deformable() -> None:
    backbone = ResNet(ResNetShape((2, 3, 4, 1)), deformable_stages=(3, 4), deformable_interval=2)
    found = {name for name, module in backbone.named_modules() if isinstance(module, DeformConv2d)}
    assert found == {f"{block}.conv2" for block in ("layer2.0", "layer2.2", "layer3.0", "layer3.2")}


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_a_deformable_stage_starts_as_the_ordinary_one_with_half_its_response(stride_in: str) -> None:
    torch.manual_seed(0)
    plain = ResNet(TINY, stride_in=stride_in).eval()
    deformable = ResNet(TINY, stride_in=stride_in, deformable_stages=(3,)).eval()
    missing, unexpected = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {key.split("offset_mask")[0] for key in missing} == {"layer2.0.conv2.", "layer2.1.conv2."}
    with torch.no_grad():
        for block in range(2):
            plain.layer2[block].conv2.weight.mul_(0.5)
        for got, want in zip(
            *(
                b(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
                for b in (deformable, plain)
            ),
            strict=True,
        ):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"freeze_at": 6}, r"0\.\.5"),
        ({"deformable_stages": (2,)}, r"\(3, 4, 5\)"),
        ({"deformable_stages": (3,), "deformable_interval": 0}, "interval of 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(TINY, **wrong)


@pytest.mark.parametrize("name", ["resnet18", "resnext101_64x4d"])
def test_deformable_stages_need_ungrouped_bottlenecks(name: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="ungrouped"):
        ResNet(RESNETS[name], deformable_stages=(5,))
