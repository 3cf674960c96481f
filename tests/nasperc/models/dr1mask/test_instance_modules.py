from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.dr1mask.instance_modules import MODULES, FactoredModule, FullModule, project
from nasperc.models.dr1mask.recipe import DR1MaskRecipe
from nasperc.models.masks.blending import Blending
from nasperc.ops.roi_align import roi_align

STRIDE, D, R = 4, 6, 8
# The last two reach over the borders of the 24 x 32 pixels.
BOXES = torch.tensor(
    [[3.0, 5.0, 17.5, 19.0], [0.0, 0.0, 32.0, 24.0], [-6.0, -9.0, 20.0, 12.0], [20.0, 10.0, 45.0, 33.0]]
)
IMAGES = torch.tensor([1, 0, 0, 1])
KINDS = ("vector", "full", "factored")


def recipe(kind: str, **choices: object) -> DR1MaskRecipe:
    values = {"width": D, "region": R, "embedding": kind, "bases": 3, "attention": 4, "rank": 2, **choices}
    return DR1MaskRecipe.model_validate(values)


def module(kind: str, **choices: object) -> nn.Module:
    torch.manual_seed(0)
    return MODULES[kind](recipe(kind, **choices), STRIDE)  # type: ignore[index]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embeddings(kind: str, count: int = len(BOXES), **choices: object) -> Tensor:
    return random(count, recipe(kind, **choices).embedding_channels, seed=1)


def regions_of(basis: Tensor) -> Tensor:
    return roi_align(basis, BOXES, IMAGES, (R, R), 1 / STRIDE, sampling_ratio=1)


def test_each_instance_has_a_1x1_convolution_of_its_own() -> None:
    """Equation 5.7."""
    regions, weights = random(3, D, R, R), random(7, 2, D, seed=1)
    index = torch.tensor([2, 0, 2, 2, 0, 2, 0])
    pairs = zip(regions[index], weights, strict=True)
    slow = torch.stack([F.conv2d(region, t[:, :, None, None]) for region, t in pairs])
    torch.testing.assert_close(project(regions, weights, index), slow)
    torch.testing.assert_close(project(regions[index], weights), slow)
    # No region looks at another one's instances, and one may have none.
    assert project(regions, weights[:0], index[:0]).shape == (0, 2, R, R)
    assert project(regions[:0], weights[:0], index[:0]).shape == (0, 2, R, R)


def test_the_vector_is_a_weighted_sum_of_the_channels() -> None:
    """YOLACT; with the same weights for all pixels of an image, a 1x1 convolution of it (5.9)."""
    basis, e = random(2, D, 6, 8), embeddings("vector")
    weighted = torch.einsum("qd,qdij->qij", e, regions_of(basis))
    torch.testing.assert_close(module("vector")(basis, BOXES, IMAGES, e), weighted)


def test_the_full_attention_is_the_blender_of_projected_bases() -> None:
    full, basis, e = module("full"), random(2, D, 6, 8), embeddings("full")
    assert isinstance(full, FullModule)
    bases = F.conv2d(basis, full.projection.weight, full.projection.bias)
    attention = F.interpolate(e.view(-1, 3, 4, 4), size=(R, R), mode="bilinear").softmax(1)
    torch.testing.assert_close(full(basis, BOXES, IMAGES, e), (regions_of(bases) * attention).sum(1))


def test_the_factored_attention_is_the_product_of_its_factors() -> None:
    """Equation 5.8, written out: for each instance and each of K bases, U^T Sigma V."""
    factored, s = module("factored"), random(5, 3, 2, seed=2)
    assert isinstance(factored, FactoredModule)
    found = factored.attentions(s)
    assert found.shape == (5, 3, 4, 4)
    for instance in range(5):
        for k in range(3):
            u, v = factored.u[k], factored.v[k]
            assert u.shape == v.shape == (2, 4)
            torch.testing.assert_close(found[instance, k], u.t() @ torch.diag(s[instance, k]) @ v)
    # Figure 5.5: a one-hot diagonal gives one component, of rank 1.
    one_hot = torch.zeros(1, 3, 2)
    one_hot[0, 1, 0] = 1
    component = factored.attentions(one_hot)[0]
    torch.testing.assert_close(component[1], torch.outer(factored.u[1, 0], factored.v[1, 0]))
    assert not component[0].any()


def test_the_factored_module_is_projection_then_blending() -> None:
    """e = [t : s] (5.4.2), one instance after the other."""
    factored, basis, e = module("factored"), random(2, D, 6, 8), embeddings("factored")
    assert isinstance(factored, FactoredModule)
    found = factored(basis, BOXES, IMAGES, e)
    for mask, region, own in zip(found, regions_of(basis), e, strict=True):
        t, s = own[: 3 * D].view(3, D), own[3 * D :].view(3, 2)
        projected = torch.stack([sum(t[k, d] * region[d] for d in range(D)) for k in range(3)])  # type: ignore[misc]
        attention = torch.stack([factored.u[k].t() @ torch.diag(s[k]) @ factored.v[k] for k in range(3)])
        scores = F.interpolate(attention[None], size=(R, R), mode="bilinear")[0].softmax(0)
        torch.testing.assert_close(mask, (projected * scores).sum(0))


def test_the_thesis_s_sizes() -> None:
    """784 values become 16, beside a projection of D K weights; U and V are 4 x 14 each, for each of 4 bases."""
    chosen = DR1MaskRecipe()
    factored = FactoredModule(chosen, STRIDE)
    assert factored.u.shape == factored.v.shape == (4, 4, 14)
    assert chosen.embedding_channels == 32 * 4 + 16
    assert chosen.model_copy(update={"embedding": "full"}).embedding_channels == 784
    assert chosen.model_copy(update={"embedding": "vector"}).embedding_channels == 32


def test_a_factored_attention_of_full_rank_is_a_full_one() -> None:
    """Rows of the identity as U and V would be diagonal; any attention is U^T Sigma V of its singular vectors."""
    factored = module("factored", rank=4)
    assert isinstance(factored, FactoredModule)
    attention = random(3, 4, 4, seed=5)
    u, s, v = torch.linalg.svd(attention)
    with torch.no_grad():
        factored.u.copy_(u.mT)
        factored.v.copy_(v)
    torch.testing.assert_close(factored.attentions(s[None])[0], attention)
    regions = random(1, 3, R, R)
    torch.testing.assert_close(
        factored.blending(regions, factored.attentions(s[None])), Blending(R, 4)(regions, attention[None])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_instances_that_share_a_region_are_what_each_is_alone(kind: str) -> None:
    chosen, basis = module(kind), random(2, D, 6, 8)
    index = torch.tensor([3, 0, 0, 1, 3])
    e = embeddings(kind, 5)
    regions = chosen.crop(basis, BOXES, IMAGES)
    alone = chosen(basis, BOXES[index], IMAGES[index], e)
    torch.testing.assert_close(chosen.blend(regions, e, index), alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [None, torch.empty(0, dtype=torch.int64)])
def test_no_instance_is_no_mask(kind: str, index: Tensor | None) -> None:
    chosen, basis = module(kind), random(2, D, 6, 8).requires_grad_()
    e = embeddings(kind, 0).requires_grad_()
    masks = chosen.blend(chosen.crop(basis, BOXES[:0], IMAGES[:0]), e, index)
    assert masks.shape == (0, R, R)
    masks.sum().backward()
    assert all(p.grad is not None for p in (basis, e, *chosen.parameters()))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str, shared: bool) -> None:
    chosen = module(kind).double()
    index = torch.tensor([1, 0, 1]) if shared else None
    regions = random(2 if shared else 3, 3 if kind == "full" else D, R, R).double().requires_grad_()
    e = embeddings(kind, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda regions, e, *_: chosen.blend(regions, e, index),
        (regions, e, *(p for name, p in chosen.named_parameters() if name in ("u", "v"))),
        fast_mode=True,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_exported_for_any_number_of_instances(kind: str) -> None:
    chosen, basis, e = module(kind).eval(), random(2, D, 6, 8), embeddings(kind)
    instances = torch.export.Dim("instances", min=0, max=1000)
    shapes = (None, {0: instances}, {0: instances}, {0: instances})
    exported = torch.export.export(chosen, (basis, BOXES, IMAGES, e), dynamic_shapes=shapes).module()
    for count in (0, 1, 3, 4):
        arguments = (basis, BOXES[:count], IMAGES[:count], e[:count])
        torch.testing.assert_close(exported(*arguments), chosen(*arguments))
