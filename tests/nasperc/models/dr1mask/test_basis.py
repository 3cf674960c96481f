from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.errors import InputError
from nasperc.models.dr1mask.basis import DR1Basis
from nasperc.models.dr1mask.dr1_conv import Context
from nasperc.models.features import FeatureSpec

SPECS = tuple(FeatureSpec(f"P{level}", 6, 2**level) for level in range(3, 8))
WIDTH = 8


def inputs(size: tuple[int, int], seed: int = 0) -> tuple[list[Tensor], list[Context]]:
    """Levels, and a context of each, for images of ``size``."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(-(-size[0] // spec.stride), -(-size[1] // spec.stride)) for spec in SPECS]
    levels = [torch.randn(2, 6, *each, generator=generator) for each in sizes]
    factors = [1 + 0.3 * torch.randn(2, 2, WIDTH, *each, generator=generator) for each in sizes]
    return levels, [Context(*each) for each in factors]


def build(upsampling: str = "aligned") -> DR1Basis:
    torch.manual_seed(0)
    return DR1Basis(SPECS, WIDTH, upsampling)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(128, 256), (132, 100)])
def test_equation_5_6_from_p7_to_p3_and_once_more_up(size: tuple[int, int]) -> None:
    basis = build()
    levels, contexts = inputs(size)
    f: Tensor | None = None
    for index in (4, 3, 2, 1, 0):
        x = F.conv2d(levels[index], basis.reduce[index].weight, basis.reduce[index].bias, padding=1)
        if f is not None:
            x = x + doubled(f)[..., : x.shape[-2], : x.shape[-1]]
        merge = basis.merge[index]
        y = F.conv2d(x * contexts[index].a, merge.conv.weight, padding=1) * contexts[index].b
        f = F.group_norm(y, 1, merge.norm.weight, merge.norm.bias).relu()
    assert f is not None
    size_of_f = (size[0] // 4, size[1] // 4)
    found = basis(levels, contexts, size_of_f)
    assert (basis.stride, found.shape) == (4, (2, WIDTH, *size_of_f))
    torch.testing.assert_close(found, doubled(f)[..., : size_of_f[0], : size_of_f[1]], rtol=1e-4, atol=1e-5)


def doubled(x: Tensor) -> Tensor:
    """Aligned, as torch has it: corners on corners, of the map and one more row and column of it."""
    height, width = x.shape[-2:]
    longer = F.pad(x, (0, 1, 0, 1), mode="replicate")
    size = (2 * height + 1, 2 * width + 1)
    return F.interpolate(longer, size=size, mode="bilinear", align_corners=True)[..., :-1, :-1]


def test_resized_it_is_bilinear_to_the_size_of_the_finer_level() -> None:
    basis = build("resized")
    levels, contexts = inputs((128, 128))
    x = basis.merge[4](basis.reduce[4](levels[4]), contexts[4])
    for index in (3, 2, 1, 0):
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = basis.merge[index](basis.reduce[index](levels[index]) + x, contexts[index])
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(basis(levels, contexts, (32, 32)), x)


def test_without_contexts_it_is_a_plain_pyramid() -> None:
    """Table 5.1, baseline."""
    basis = build()
    levels, contexts = inputs((128, 128))
    ones = [Context(torch.ones_like(a), torch.ones_like(b)) for a, b in contexts]  # type: ignore[arg-type]
    without = basis(levels, [Context(None, None)] * 5, (32, 32))
    assert torch.equal(without, basis(levels, ones, (32, 32)))
    assert not torch.allclose(without, basis(levels, contexts, (32, 32)))


def test_what_the_coarsest_context_says_reaches_the_basis() -> None:
    basis = build()
    levels, contexts = inputs((256, 256))
    a = contexts[4].a
    assert a is not None
    a.requires_grad_()
    basis(levels, contexts, (64, 64)).square().sum().backward()
    assert a.grad is not None
    assert (a.grad != 0).all()


def test_levels_with_a_gap_are_refused() -> None:
    with pytest.raises(InputError, match=r"double from level to level.*P5 of stride 32.*P7 of stride 128"):
        DR1Basis((SPECS[2], SPECS[4]), WIDTH, "aligned")
