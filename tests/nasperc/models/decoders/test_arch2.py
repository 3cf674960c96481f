"""arch2 against its description, read slowly: layer by layer, with the operations of torch alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.decoders.arch2 import ARCH2, DiscoveredDecoder, Genotype
from nasperc.models.decoders.arch2_cell import CellGenotype, ContextualCell, Pair, build_operation
from nasperc.models.features import FeatureSpec
from nasperc.models.segmenter import Segmenter

INPUTS = tuple(FeatureSpec(f"C{i}", c, 2**i) for i, c in ((2, 24), (3, 32), (4, 96), (5, 320)))
SMALL = tuple(FeatureSpec(f"C{i}", i, 2**i) for i in range(2, 6))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def conv_bn_relu(layer, x, dilation=1):
    weight, norm = layer[0].weight, layer[1]
    x = F.conv2d(x, weight, padding=dilation * (weight.shape[-1] // 2), dilation=dilation)
    statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    mean, variance, scale, shift = (each[:, None, None] for each in statistics)
    return ((x - mean) / (variance + norm.eps).sqrt() * scale + shift).clamp(min=0)


def upsample(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def cell(module, x):
    (gap, op1_of_x), (op0_of_p3, op1_of_p2), (op5_of_p5, op0_of_p6) = module.pairs
    p1 = conv_bn_relu(module.first, x, dilation=3)
    p2 = upsample(conv_bn_relu(gap, x.mean(2, keepdim=True).mean(3, keepdim=True)), x)
    p3 = conv_bn_relu(op1_of_x, x)
    p4 = p2 + p3
    p5 = conv_bn_relu(op0_of_p3, p3)
    p6 = conv_bn_relu(op1_of_p2, p2)
    p7 = p5 + p6
    p8 = conv_bn_relu(op5_of_p5, p5, dilation=3)
    p9 = conv_bn_relu(op0_of_p6, p6)
    p10 = p8 + p9
    return p1 + p4 + p7 + p10


def connect(module, x, y):
    x, y = (
        conv_bn_relu(b, cell(c, z)) for b, c, z in zip(module.branches, module.cells, (x, y), strict=True)
    )
    return (x, upsample(y, x)) if x.shape[2] >= y.shape[2] else (upsample(x, y), y)


def decode(decoder, features):
    level1, level2, level3 = (conv_bn_relu(decoder.adapters[index], features[index]) for index in (1, 2, 3))
    index4 = sum(connect(decoder.connections[0], level1, level3))
    index5 = sum(connect(decoder.connections[1], index4, level3))
    index6 = sum(connect(decoder.connections[2], level2, level2))
    concatenated = torch.cat((index5, upsample(index6, index5)), 1).clamp(min=0)
    return conv_bn_relu(decoder.project, concatenated), [index4, index5, index6]


def randomised(module):
    """Evaluation mode in float64, with weights and statistics that all count."""
    torch.manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() and tensor.ndim == 1:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return module.double().eval()


@pytest.mark.parametrize("size", [(64, 96), (72, 40)])
def test_it_is_what_the_description_says(size):
    decoder = randomised(DiscoveredDecoder(SMALL, width=5))
    shapes = [(2, s.channels, -(-size[0] // s.stride), -(-size[1] // s.stride)) for s in SMALL]
    features = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    dec, auxiliary = decoder(features)
    expected, results = decode(decoder, features)
    torch.testing.assert_close(dec, expected)
    for one, other in zip(auxiliary, results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("classes", "total"), [(21, 2_852_053), (19, 2_850_899), (11, 2_846_283)])
def test_parameters_without_auxiliary_classifiers(classes, total):
    with torch.device("meta"):
        backbone = MobileNetV2(frozen_bn=False)
        network = Segmenter(backbone, DiscoveredDecoder(backbone.out), classes)
    assert parameters(backbone) == 1_811_712
    assert parameters(network) == total
    # The release's encoder has one 1x1 with its norm more, from 32 to 32 channels.
    release = {21: 2_853_141, 19: 2_851_987, 11: 2_847_371}
    assert total + 32 * 32 + 2 * 32 == release[classes]
    with_auxiliary = Segmenter(backbone, DiscoveredDecoder(backbone.out), classes, auxiliary=True)
    assert parameters(with_auxiliary) == total + 3 * (64 * 9 + 1) * classes


def test_layer_shapes():
    """Of each convolution in the decoder's state: 1x1 of the adapters, the cells, the branches, the end."""
    decoder = DiscoveredDecoder(INPUTS)
    kernels = {name: tuple(weight.shape) for name, weight in decoder.named_parameters() if weight.ndim == 4}
    expected = {f"adapters.{i}.0.weight": (64, c, 1, 1) for i, c in enumerate((24, 32, 96, 320))}
    sizes = {"first": 3, "pairs.0.0": 1, "pairs.0.1": 3}
    sizes |= {"pairs.1.0": 1, "pairs.1.1": 3, "pairs.2.0": 3, "pairs.2.1": 1}
    for connection in range(3):
        for operand in range(2):
            prefix = f"connections.{connection}"
            expected[f"{prefix}.branches.{operand}.0.weight"] = (64, 64, 1, 1)
            for op, k in sizes.items():
                expected[f"{prefix}.cells.{operand}.{op}.0.weight"] = (64, 64, k, k)
    expected["project.0.weight"] = (64, 128, 1, 1)
    assert kernels == expected
    biases = [name for name, value in decoder.named_parameters() if value.ndim == 1]
    assert len(biases) == 2 * len(kernels)  # only those of the norms, two each
    assert [c.sources for c in decoder.connections] == [(1, 3), (4, 3), (2, 2)]
    assert decoder.out == FeatureSpec("dec", 64, 8)


@pytest.mark.parametrize(
    ("op", "kernel", "dilation", "separable"),
    [(0, 1, 1, 0), (1, 3, 1, 0), (5, 3, 3, 0), (6, 3, 12, 0), (2, 3, 1, 1), (3, 5, 1, 1), (7, 3, 3, 1), (8, 5, 6, 1)],
)  # fmt: skip
def test_operations_by_id(op, kernel, dilation, separable):
    layers = list(build_operation(op, 8, repeats=3).modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    spatial = convolutions[::2] if separable else convolutions
    assert len(spatial) == (3 if separable else 1)
    assert {(c.kernel_size, c.dilation, c.groups) for c in spatial} == {
        ((kernel, kernel), (dilation, dilation), 8 if separable else 1)
    }
    assert {type(layer) for layer in layers} >= {nn.BatchNorm2d, nn.ReLU}
    x = torch.randn(2, 8, 9, 7)
    assert build_operation(op, 8, repeats=3)(x).shape == x.shape


def test_skip_and_zero():
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(build_operation(9, 3, 1)(x), x)
    assert not build_operation(10, 3, 1)(x).any()
    with pytest.raises(KeyError):
        build_operation(11, 3, 1)


def test_other_genotypes():
    """A cell that reads its input again, a sum that a later pair consumes, and only the last connection left."""
    genotype = CellGenotype(9, (Pair(0, 1, 9, 9), Pair(4, 0, 9, 10)))
    x = torch.randn(1, 3, 4, 4)
    # The skip p1 is consumed by the first pair, x + x, and that by the second: (x + x) + 0.
    torch.testing.assert_close(ContextualCell(genotype, 3, 1)(x), 2 * x)
    decoder = DiscoveredDecoder(SMALL, Genotype(genotype, ((1, 2), (4, 3))), width=8)
    assert decoder.unconsumed == [5]
    assert ARCH2.connections == ((1, 3), (4, 3), (2, 2))
