import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.errors import InputError
from nasperc.models.blendmask.bottom import Bottom, BottomRecipe
from nasperc.models.blendmask.deeplab_bottom import DeepLabBottomRecipe
from nasperc.models.blendmask.protonet import ProtoNet, ProtoNetRecipe
from nasperc.models.features import FeatureSpec

BACKBONE = tuple(FeatureSpec(f"C{level}", 4 * level, 2**level) for level in range(2, 6))
NECK = tuple(FeatureSpec(f"P{level}", 16, 2**level) for level in range(2, 8))
P3_ON = NECK[1:]
DEEPLAB = [
    DeepLabBottomRecipe(inputs=inputs, width=8) for inputs in (("C3", "C5"), ("P3", "P5"), ("P2", "P5"))
]
PROTO_P3 = ProtoNetRecipe(inputs=("P3",), width=8, convolutions=4)
PROTO_FPN = ProtoNetRecipe(width=8, convolutions=3)


def maps(specs: tuple[FeatureSpec, ...], height: int = 64, width: int = 96, images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(
            images, spec.channels, -(-height // spec.stride), -(-width // spec.stride), generator=generator
        )
        for spec in specs
    ]


def bottom(recipe: BottomRecipe, bases: int = 4) -> Bottom:
    torch.manual_seed(0)
    return Bottom(recipe, bases, BACKBONE, NECK)


@pytest.mark.parametrize(
    ("recipe", "stride"),
    [(DEEPLAB[0], 8), (DEEPLAB[1], 8), (DEEPLAB[2], 4), (PROTO_P3, 4), (PROTO_FPN, 4)],
    ids=["C3+C5", "P3+P5", "P2+P5", "Proto-P3", "Proto-FPN"],
)
class TestEveryBottom:
    def test_bases_are_at_its_stride(self, recipe: BottomRecipe, stride: int) -> None:
        module = bottom(recipe)
        assert module.stride == stride
        assert module(maps(BACKBONE), maps(NECK)).shape == (2, 4, 64 // stride, 96 // stride)

    def test_gradients_reach_every_parameter_and_only_the_inputs_that_it_names(
        self, recipe: BottomRecipe, stride: int
    ) -> None:
        module, backbone, neck = bottom(recipe), maps(BACKBONE), maps(NECK)
        given = {
            spec.name: x.requires_grad_()
            for spec, x in zip((*BACKBONE, *NECK), (*backbone, *neck), strict=True)
        }
        module(backbone, neck).square().mean().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
        assert {name for name, x in given.items() if x.grad is not None} == set(recipe.inputs)

    def test_a_batch_may_be_one_image(self, recipe: BottomRecipe, stride: int) -> None:
        bases = bottom(recipe).train()(maps(BACKBONE, images=1), maps(NECK, images=1))
        assert bases.isfinite().all()

    def test_an_image_does_not_depend_on_its_neighbours(self, recipe: BottomRecipe, stride: int) -> None:
        module, backbone, neck = bottom(recipe).eval(), maps(BACKBONE), maps(NECK)
        both, alone = module(backbone, neck), module([x[:1] for x in backbone], [x[:1] for x in neck])
        torch.testing.assert_close(both[:1], alone)


def conv_bn_relu(x: Tensor, layer: nn.Sequential) -> Tensor:
    conv, norm, _ = layer
    y = F.conv2d(x, conv.weight, padding=conv.weight.shape[-1] // 2)
    return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()


def test_the_protonet_of_an_fpn_read_slowly() -> None:
    """A 3x3 a level to the width, up to P3 and summed; 3x3 convolutions, one of them at twice the size; 1x1."""
    module, levels = bottom(PROTO_FPN).eval(), maps(P3_ON)[:3]
    network = module.network
    assert isinstance(network, ProtoNet)
    summed = torch.zeros(2, 8, 8, 12)
    for level, layer in zip(levels, network.refine, strict=True):
        summed += F.interpolate(conv_bn_relu(level, layer), size=(8, 12), mode="bilinear")
    first, second, _, third, bases = network.tower
    x = conv_bn_relu(conv_bn_relu(summed, first), second)
    x = conv_bn_relu(F.interpolate(x, scale_factor=2, mode="bilinear"), third)
    slow = F.conv2d(x, bases.weight, bases.bias)
    torch.testing.assert_close(module(maps(BACKBONE), [maps(NECK)[0], *levels, *maps(NECK)[4:]]), slow)


@pytest.mark.parametrize(("recipe", "convolutions"), [(PROTO_P3, 4), (PROTO_FPN, 3 + 3)])
def test_the_fpn_version_has_one_convolution_fewer_behind_its_inputs(
    recipe: ProtoNetRecipe, convolutions: int
) -> None:
    """4.4.1: "we reduce convolution layers by one"."""
    kernels = [module.kernel_size for module in bottom(recipe).modules() if isinstance(module, nn.Conv2d)]
    assert sorted(kernels) == [(1, 1)] + [(3, 3)] * convolutions


@pytest.mark.parametrize("recipe", [DEEPLAB[2], ProtoNetRecipe(inputs=("P2", "P3"))])
def test_a_level_that_the_neck_does_not_have_is_refused_by_name(recipe: BottomRecipe) -> None:
    with pytest.raises(
        InputError, match=r"got P2 .*bottom\.inputs.*Choose of C2, C3, C4, C5, P3, P4, P5, P6, P7"
    ):
        Bottom(recipe, 4, BACKBONE, P3_ON)


@pytest.mark.parametrize("inputs", [("P5", "P3"), ("C3", "P3")])
def test_inputs_go_from_fine_to_coarse(inputs: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="from fine to coarse"):
        bottom(DeepLabBottomRecipe(inputs=inputs))
