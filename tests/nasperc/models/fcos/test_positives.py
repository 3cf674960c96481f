"""Where the positives are, what losses are divided by, and a further loss that shares both."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nasperc.models.fcos.losses import fcos_losses, fcos_losses_at
from nasperc.models.fcos.positives import fcos_normalisers, fcos_positives
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.targets import FCOSTargets
from nasperc.models.features import HeadOutput
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.targets import BACKGROUND, IGNORE, NO_OWNER

STRIDES, SIZES, CLASSES = (8, 16), ((2, 3), (1, 2)), 3
LABELS = [
    [BACKGROUND, 0, 2, IGNORE, 1, BACKGROUND, 2, BACKGROUND],
    [BACKGROUND] * 8,
    [IGNORE, IGNORE, BACKGROUND, 1, BACKGROUND, BACKGROUND, BACKGROUND, 0],
]


def example() -> tuple[HeadOutput, FCOSTargets, Tensor]:
    """Output and targets of three images, the second without objects, and a value at each location."""
    generator = torch.Generator().manual_seed(0)
    maps = [
        [torch.randn(3, channels, *size, generator=generator) for size in SIZES]
        for channels in (1, 1, CLASSES, 4, 1)
    ]
    maps[3] = [x.exp() * 8 for x in maps[3]]
    labels = torch.tensor(LABELS)
    positive = labels >= 0
    owner = torch.where(positive, torch.arange(8) % 4, NO_OWNER)
    distances = torch.rand(3, 8, 4, generator=generator) * 20 + 1
    centerness = torch.rand(3, 8, generator=generator) * 0.9 + 0.05
    targets = FCOSTargets(labels, distances * positive[..., None], centerness * positive, owner)
    return HeadOutput(*maps), targets, torch.randn(3, 8, generator=generator)


def test_positives_against_a_loop() -> None:
    _, targets, _ = example()
    assert targets.owner is not None
    wanted = [
        (image, place, targets.owner[image, place].item(), targets.centerness[image, place].item())
        for image in range(3)
        for place in range(8)
        if LABELS[image][place] >= 0
    ]
    found = fcos_positives(targets)
    assert found.owner is not None
    assert list(zip(*(field.tolist() for field in found), strict=True)) == wanted
    assert {owner for _, _, owner, _ in wanted} == {0, 1, 2, 3}


def test_targets_of_an_old_cache_have_positives_without_owners() -> None:
    _, targets, _ = example()
    with_owners, without = fcos_positives(targets), fcos_positives(targets._replace(owner=None))
    assert without.owner is None
    assert torch.equal(without.location, with_owners.location)


@pytest.mark.parametrize(("name", "focal"), [("nas_fcos", 6 + 3), ("adelaidet", 6)])
def test_normalisers(name: str, focal: int) -> None:
    _, targets, _ = example()
    found = fcos_normalisers(fcos_positives(targets), 3, PRESETS[name])
    assert [found.focal.item(), found.positives.item(), found.images.item()] == [focal, 6, 3]
    assert found.weight.item() == pytest.approx(targets.centerness.sum().item())


@pytest.mark.parametrize(("name", "focal"), [("nas_fcos", 2), ("adelaidet", 1)])
def test_nothing_is_divided_by_nothing(name: str, focal: int) -> None:
    _, targets, _ = example()
    empty = FCOSTargets(*[field[1:2].repeat(2, *[1] * (field.dim() - 1)) for field in targets])
    found = fcos_normalisers(fcos_positives(empty), 2, PRESETS[name])
    assert [found.focal.item(), found.positives.item()] == [focal, 1]
    assert found.weight.item() == pytest.approx(1e-6)


def with_further_loss(
    output: HeadOutput, targets: FCOSTargets, values: Tensor, name: str, reduce: Reduce = reduce_alone
) -> Tensor:
    """The losses of FCOS and one as a mask loss is: of the positives, weighted, over the sum of the weights."""
    positives = fcos_positives(targets)
    normalisers = fcos_normalisers(positives, len(targets.labels), PRESETS[name], reduce)
    boxes = fcos_losses_at(positives, normalisers, output, targets, PRESETS[name], STRIDES)
    assert positives.owner is not None
    error = (values[positives.image, positives.location] - positives.owner).square()
    return torch.stack([*boxes, (error * positives.weight).sum() / normalisers.weight])


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_further_loss_shares_the_sums(name: str) -> None:
    output, targets, values = example()
    *boxes, further = with_further_loss(output, targets, values, name)
    assert torch.equal(torch.stack(boxes), torch.stack(fcos_losses(output, targets, PRESETS[name], STRIDES)))
    assert targets.owner is not None
    total = weights = 0.0
    for image in range(3):
        for place in range(8):
            if LABELS[image][place] >= 0:
                weight = targets.centerness[image, place].item()
                total += weight * (values[image, place] - targets.owner[image, place]).item() ** 2
                weights += weight
    assert further.item() == pytest.approx(total / weights, rel=1e-5)


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("cut", [1, 2])
def test_parts_of_a_batch_add_up_with_one_reduction_each(name: str, cut: int) -> None:
    output, targets, values = example()
    leaves = [values.requires_grad_(), *(x.requires_grad_() for x in output.boxes)]
    whole = with_further_loss(output, targets, values, name)
    wanted = torch.autograd.grad(whole.sum(), leaves)
    parts = [
        (
            HeadOutput(*[[x[half] for x in field] for field in output]),
            FCOSTargets(*[field[half] for field in targets]),
            values[half],
        )
        for half in (slice(0, cut), slice(cut, 3))
    ]
    told: list[Tensor] = []

    def note(sums: Tensor) -> Tensor:
        told.append(sums)
        return sums

    for part in parts:
        with_further_loss(*part, name, note)
    assert len(told) == 2
    shares = sum(with_further_loss(*part, name, lambda _: told[0] + told[1]) for part in parts)
    assert isinstance(shares, Tensor)
    torch.testing.assert_close(shares, whole)
    for found, grad in zip(torch.autograd.grad(shares.sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(found, grad)
