"""What every static segmentation network keeps to. A new one adds a subclass and inherits the tests."""

import math

import pytest
import torch
from torch import nn

from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.backbones.resnet import RESNETS, ResNet
from nasperc.models.decoders.arch2 import ARCH2, DiscoveredDecoder
from nasperc.models.decoders.build import SEGMENTERS, build_segmenter
from nasperc.models.decoders.deeplab_v3_plus import DeepLabV3PlusDecoder
from nasperc.models.features import FeatureSpec
from nasperc.models.segmenter import Segmenter, StaticSegmenter

CLASSES = 5


class StaticSegmenterContract:
    # Parameters that take no part, by the start of their names.
    unread: tuple[str, ...] = ()

    def build(self, auxiliary: bool = True) -> StaticSegmenter:
        raise NotImplementedError

    @pytest.mark.parametrize("size", [(64, 96), (50, 70)])
    def test_levels_dec_and_logits_are_what_is_said(self, size):
        network = self.build().eval()
        images = torch.randn(2, 3, *size)
        output = network(images)
        assert [(spec.name, spec.stride) for spec in network.levels] == [
            ("layer2", 8),
            ("layer3", 16),
            ("layer4", 32),
        ]
        assert (network.dec.name, network.dec.stride) == ("dec", 8)
        assert network.cell_inputs == (*network.levels, network.dec)
        for spec, x in zip(network.cell_inputs, (*output.levels, output.dec), strict=True):
            assert tuple(x.shape) == (2, spec.channels, *(math.ceil(each / spec.stride) for each in size))
        assert output.logits.shape == (2, CLASSES, *output.dec.shape[2:])
        torch.testing.assert_close(network.classifier(output.dec), output.logits)

    def test_encoding_then_decoding_is_the_same(self):
        network = self.build().eval()
        images = torch.randn(1, 3, 64, 64)
        features = network.encode(images)
        output = network(images)
        assert all(torch.equal(a, b) for a, b in zip(features[-3:], output.levels, strict=True))
        torch.testing.assert_close(network.decode(features).dec, output.dec)

    def test_auxiliary_classifiers_serve_training_only(self):
        network = self.build()
        images = torch.randn(2, 3, 64, 64)
        assert network(images).auxiliary
        assert all(x.shape[:2] == (2, CLASSES) for x in network(images).auxiliary)
        assert network.eval()(images).auxiliary == []
        assert self.build(auxiliary=False)(images).auxiliary == []

    def test_gradients_reach_every_parameter(self):
        torch.manual_seed(0)
        network = self.build()
        output = network(torch.randn(2, 3, 128, 128))
        sum(x.square().mean() for x in (output.logits, *output.auxiliary)).backward()
        idle = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
        assert {name for name in idle if not name.startswith(self.unread)} == set()

    def test_channels_last_stays(self):
        network = self.build().to(memory_format=torch.channels_last)
        output = network(torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last))
        maps = (output.logits, output.dec, *output.levels)
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in maps)


class TestArch2(StaticSegmenterContract):
    unread = ("decoder.adapters.0.",)

    def build(self, auxiliary=True):
        backbone = MobileNetV2(width_mult=0.25, frozen_bn=False)
        return build_segmenter("arch2", backbone, CLASSES, auxiliary=auxiliary)


class TestDeepLabV3Plus(StaticSegmenterContract):
    def build(self, auxiliary=True):
        backbone = MobileNetV2(width_mult=0.25, frozen_bn=False)
        return build_segmenter("deeplab_v3_plus", backbone, CLASSES, auxiliary=auxiliary)


class TestDeepLabV3PlusOnAResNet(StaticSegmenterContract):
    def build(self, auxiliary=True):
        backbone = ResNet(RESNETS["resnet18"], frozen_bn=False)
        return Segmenter(backbone, DeepLabV3PlusDecoder(backbone.out, 32), CLASSES, auxiliary=auxiliary)


def test_unknown_names_are_refused():
    assert set(SEGMENTERS) == {"arch2", "deeplab_v3_plus"}
    with pytest.raises(InputError, match="arch2, deeplab_v3_plus"):
        build_segmenter("arch3", MobileNetV2(), CLASSES)


def backbone_of(*strides):
    backbone = nn.Identity()
    backbone.out = tuple(FeatureSpec(f"C{stride}", 4, stride) for stride in strides)
    return backbone


@pytest.mark.parametrize("name", sorted(SEGMENTERS))
def test_a_backbone_without_the_levels_is_refused(name):
    with pytest.raises(InputError, match="strides 8, 16 and 32"):
        build_segmenter(name, backbone_of(4, 8, 16, 16), CLASSES)


def test_a_decoder_at_another_stride_is_refused():
    backbone = backbone_of(4, 8, 16, 32)
    finest = DiscoveredDecoder(backbone.out, ARCH2._replace(connections=((0, 3),)))
    with pytest.raises(InputError, match="stride of 8"):
        Segmenter(backbone, finest, CLASSES)
