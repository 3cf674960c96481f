import pytest
import torch
from blender_reference import blended
from torch import Tensor
from torch.nn import functional as F

from nasperc.models.blendmask.blender import Blender
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.ops.roi_align import roi_align

STRIDE = 4
# The last two reach over the borders of the 24 x 32 pixels.
BOXES = torch.tensor(
    [[3.0, 5.0, 17.5, 19.0], [0.0, 0.0, 32.0, 24.0], [-6.0, -9.0, 20.0, 12.0], [20.0, 10.0, 45.0, 33.0]]
)
IMAGES = torch.tensor([1, 0, 0, 1])


def recipe(**choices: object) -> BlendMaskRecipe:
    return BlendMaskRecipe.model_validate(choices)


def bases(count: int, seed: int = 0) -> Tensor:
    return torch.randn(2, count, 6, 8, generator=torch.Generator().manual_seed(seed))


def attentions(count: int, side: int, instances: int = len(BOXES)) -> Tensor:
    return 3 * torch.randn(instances, count * side * side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize(("region", "count", "side"), [(8, 4, 2), (6, 3, 6), (7, 2, 3), (8, 1, 4)])
def test_the_blender_is_what_a_slow_reading_gives(
    region: int, count: int, side: int, interpolation: str
) -> None:
    choices = recipe(region=region, bases=count, attention=side, top_interpolation=interpolation)
    given, top = bases(count), attentions(count, side)
    logits = Blender(choices, STRIDE)(given, BOXES, IMAGES, top)
    masks = logits.sigmoid() if count == 1 else logits
    for mask, box, image, weights in zip(masks, BOXES, IMAGES, top, strict=True):
        planes = weights.view(count, side, side).tolist()
        slow = blended(
            given[image].tolist(), box.tolist(), planes, region, STRIDE, interpolation == "bilinear"
        )
        torch.testing.assert_close(mask, torch.tensor(slow), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize(("region", "side"), [(56, 14), (28, 4), (56, 7), (10, 3)])
def test_attentions_are_resized_as_torch_resizes(region: int, side: int, mode: str) -> None:
    blender = Blender(recipe(region=region, attention=side, top_interpolation=mode), STRIDE)
    ones = torch.eye(4)[:, :, None, None].expand(4, 4, region, region)
    top = attentions(4, side)
    # Each instance sees one basis alone, so its mask is that basis's score.
    masks = blender.blend(ones, top)
    resized = F.interpolate(top.view(4, 4, side, side), size=(region, region), mode=mode)
    torch.testing.assert_close(masks, resized.softmax(1).diagonal(dim1=0, dim2=1).permute(2, 0, 1))


def test_one_attention_for_the_whole_region_is_the_weighted_sum() -> None:
    """YOLACT: a scalar a basis (4.4.1)."""
    blender = Blender(recipe(region=8, attention=1, merger="weighted_sum"), STRIDE)
    given, top = bases(4), attentions(4, 1)
    regions = blender.crop(given, BOXES, IMAGES)
    weighted = torch.einsum("dk,dkij->dij", top.softmax(1), regions)
    torch.testing.assert_close(blender(given, BOXES, IMAGES, top), weighted)


def test_the_assembler_takes_each_cell_from_its_own_basis() -> None:
    """FCIS: 16 bases, one for each of the 4 x 4 cells, nothing predicted (4.4.1)."""
    blender = Blender(
        recipe(region=8, bases=16, attention=4, merger="assembler", top_interpolation="nearest"), STRIDE
    )
    given = bases(16)
    regions = blender.crop(given, BOXES, IMAGES)
    masks = blender(given, BOXES, IMAGES, None)
    for row in range(8):
        for column in range(8):
            own = 4 * (row // 2) + column // 2
            torch.testing.assert_close(masks[:, row, column], regions[:, own, row, column])


def test_the_assembler_is_the_blender_with_attentions_that_are_sure() -> None:
    choices = {"region": 8, "bases": 16, "attention": 4, "top_interpolation": "nearest"}
    given, sure = bases(16), 100 * torch.eye(16).flatten().expand(len(BOXES), -1)
    blended_masks = Blender(recipe(**choices), STRIDE)(given, BOXES, IMAGES, sure)
    assembled = Blender(recipe(**choices, merger="assembler"), STRIDE)(given, BOXES, IMAGES, None)
    torch.testing.assert_close(blended_masks, assembled)


def test_one_basis_is_a_product_of_two_probabilities() -> None:
    blender = Blender(recipe(region=6, bases=1, attention=6), STRIDE)
    given, top = bases(1), attentions(1, 6)
    masks = blender(given, BOXES, IMAGES, top).sigmoid()
    regions = blender.crop(given, BOXES, IMAGES)[:, 0]
    torch.testing.assert_close(masks, regions.sigmoid() * top.view(-1, 6, 6).sigmoid())


def test_bilinear_sampling_is_an_aligned_roi_align_with_one_sample_a_bin() -> None:
    regions = Blender(recipe(region=5, attention=5), STRIDE).crop(bases(4), BOXES, IMAGES)
    torch.testing.assert_close(
        regions, roi_align(bases(4), BOXES, IMAGES, (5, 5), 1 / STRIDE, sampling_ratio=1)
    )


def test_a_mask_lies_where_its_box_does() -> None:
    """Bases that say where they are in the image: what is cropped says where the middles of the mask's cells are."""
    middles = STRIDE * (torch.arange(8) + 0.5)
    given = torch.stack((middles[:6, None].expand(6, 8), middles.expand(6, 8)))[None]
    box = torch.tensor([[5.0, 3.0, 27.0, 21.0]])
    blender = Blender(recipe(region=11, bases=2, attention=11), STRIDE)
    (rows, columns) = blender.crop(given, box, torch.tensor([0]))[0]
    cells = torch.arange(11) + 0.5
    torch.testing.assert_close(rows, (3 + cells * 18 / 11)[:, None].expand(11, 11))
    torch.testing.assert_close(columns, (5 + cells * 2).expand(11, 11))


def test_nearest_sampling_takes_values_of_the_bases() -> None:
    """RoIPool: the largest value of a cell of the box, so none that the map does not have."""
    inside = BOXES[:2]
    given = bases(4)
    regions = Blender(recipe(region=3, attention=3, bottom_sampling="nearest"), STRIDE).crop(
        given, inside, IMAGES[:2]
    )
    for region, image in zip(regions, IMAGES[:2], strict=True):
        assert torch.isin(region, given[image]).all()


@pytest.mark.parametrize("sampling", ["nearest", "bilinear"])
@pytest.mark.parametrize(
    "choices", [{}, {"bases": 1}, {"bases": 196, "merger": "assembler", "top_interpolation": "nearest"}]
)
def test_no_instance_is_no_mask(choices: dict[str, object], sampling: str) -> None:
    chosen = recipe(**choices, bottom_sampling=sampling)
    given = bases(chosen.bases).requires_grad_()
    top = torch.empty(0, chosen.top_channels, requires_grad=True) if chosen.top_channels else None
    masks = Blender(chosen, STRIDE)(given, BOXES[:0], IMAGES[:0], top)
    assert masks.shape == (0, 56, 56)
    masks.sum().backward()
    assert given.grad is not None


def test_hundreds_of_instances_are_what_each_is_alone() -> None:
    blender = Blender(recipe(region=8, attention=4), STRIDE)
    boxes, top = BOXES.repeat(75, 1), attentions(4, 4, 300)
    masks = blender(bases(4), boxes, IMAGES.repeat(75), top)
    assert masks.shape == (300, 8, 8)
    last = blender(bases(4), boxes[-1:], IMAGES[-1:], top[-1:])
    torch.testing.assert_close(masks[-1:], last)


def test_gradients_reach_bases_and_attentions() -> None:
    given, top = bases(4).requires_grad_(), attentions(4, 4, 2).requires_grad_()
    # Boxes inside of their images: beyond the borders there is nothing to weigh.
    Blender(recipe(region=8, attention=4), STRIDE)(
        given, BOXES[:2], IMAGES[:2], top
    ).square().sum().backward()
    for leaf in (given, top):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    assert (top.grad != 0).all()


@pytest.mark.parametrize(
    "choices", [{}, {"bases": 1}, {"bottom_sampling": "nearest", "top_interpolation": "nearest"}]
)
def test_it_can_be_exported_for_any_number_of_instances(choices: dict[str, object]) -> None:
    chosen = recipe(region=8, attention=4, **choices)
    blender = Blender(chosen, STRIDE).eval()
    given, top = bases(chosen.bases), attentions(chosen.bases, 4)
    instances = torch.export.Dim("instances", min=0, max=1000)
    shapes = (None, {0: instances}, {0: instances}, {0: instances})
    exported = torch.export.export(blender, (given, BOXES, IMAGES, top), dynamic_shapes=shapes).module()
    for count in (0, 1, 3, 4):
        arguments = (given, BOXES[:count], IMAGES[:count], top[:count])
        torch.testing.assert_close(exported(*arguments), blender(*arguments))
