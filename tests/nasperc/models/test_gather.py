import math

import pytest
import torch

from nasperc.models.gather import ConvMaps, gather_locations, gather_patches
from nasperc.models.targets import flatten_levels
from nasperc.ops.patch_conv import PatchConv2d


def levels(*, channels_last: bool) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 7, *size, generator=generator) for size in ((4, 6), (2, 3), (1, 2))]
    format = torch.channels_last if channels_last else torch.contiguous_format
    return [x.contiguous(memory_format=format).requires_grad_() for x in maps]


def test_it_is_what_all_levels_side_by_side_have_there_and_so_are_the_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    image, location = (
        torch.randint(3, (40,), generator=generator),
        torch.randint(32, (40,), generator=generator),
    )
    for channels_last in (False, True):
        one, other = levels(channels_last=channels_last), levels(channels_last=channels_last)
        gathered, slow = gather_locations(one, image, location), flatten_levels(other)[image, location]
        torch.testing.assert_close(gathered, slow)
        for values in (gathered, slow):
            (values * torch.arange(40)[:, None]).square().sum().backward()
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a.grad, b.grad)


def test_no_location_has_a_gradient_of_zero_everywhere() -> None:
    given, none = levels(channels_last=False), torch.empty(0, dtype=torch.int64)
    gathered = gather_locations(given, none, none)
    assert gathered.shape == (0, 7)
    gathered.sum().backward()
    assert all(x.grad is not None and not x.grad.any() for x in given)


def conv_maps(tower: list[torch.Tensor], side: int) -> tuple[PatchConv2d, ConvMaps]:
    torch.manual_seed(0)
    conv = PatchConv2d(7, 5, side)
    return conv, ConvMaps(tower, conv)


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("channels_last", [False, True])
def test_maps_that_are_computed_at_single_places_are_those_of_the_convolution(
    channels_last: bool, side: int
) -> None:
    """At every location, those at the borders and of levels smaller than the kernel too, and twice at one."""
    location = torch.arange(32).repeat(3)
    location = torch.cat((location, location[:1]))
    image = torch.cat((torch.arange(3).repeat_interleave(32), torch.zeros(1, dtype=torch.int64)))
    here, everywhere = levels(channels_last=channels_last), levels(channels_last=channels_last)
    (conv, maps), (dense_conv, _) = conv_maps(here, side), conv_maps(everywhere, side)
    gathered = gather_locations(maps, image, location)
    dense = flatten_levels([dense_conv(x) for x in everywhere])[image, location]
    torch.testing.assert_close(gathered, dense, rtol=1e-5, atol=1e-5)
    for values in (gathered, dense):
        (values * torch.arange(97)[:, None]).sum().backward()
    wanted = [*everywhere, *dense_conv.parameters()]
    for one, other in zip([*here, *conv.parameters()], wanted, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-3)


def test_a_map_that_is_looked_at_is_the_whole_one() -> None:
    tower = levels(channels_last=True)
    conv, maps = conv_maps(tower, 3)
    assert len(maps) == 3
    for each, wanted in zip(maps, tower, strict=True):
        assert torch.equal(each, conv(wanted))
    assert [x.shape for x in maps[1:]] == [(3, 5, 2, 3), (3, 5, 1, 2)]
    assert torch.equal(maps[-1], conv(tower[-1]))


def test_patches_are_squares_with_zeros_beyond_the_borders_of_their_level() -> None:
    level = torch.arange(1.0, 7).view(1, 1, 2, 3)
    other = torch.full((1, 1, 2, 2), 100.0)
    # The upper left of the second level, and the lower right of the first.
    patches = gather_patches([level, other], torch.tensor([0, 0]), torch.tensor([6, 5]), 3)
    assert patches.tolist() == [[0, 0, 0, 0, 100, 100, 0, 100, 100], [2, 3, 0, 5, 6, 0, 0, 0, 0]]


def test_what_lies_beyond_a_border_is_no_factor() -> None:
    """A zero times it would be none if it were infinite."""
    level = torch.full((1, 1, 1, 3), math.inf)
    level[..., 2] = 1.0
    assert gather_patches([level], torch.tensor([0]), torch.tensor([2]), 3).tolist() == [
        [0, 0, 0, math.inf, 1, 0, 0, 0, 0]
    ]


def test_none_of_the_places_have_gradients_of_zero() -> None:
    tower, none = levels(channels_last=False), torch.empty(0, dtype=torch.int64)
    conv, maps = conv_maps(tower, 3)
    found = gather_locations(maps, none, none)
    assert found.shape == (0, 5)
    found.sum().backward()
    assert all(x.grad is not None and not x.grad.any() for x in [*tower, *conv.parameters()])


def test_it_is_exported_for_maps_of_any_size_and_any_number_of_places(exported) -> None:
    conv, _ = conv_maps([], 3)

    def run(first, second, location):
        return ConvMaps([first, second], conv).at(torch.zeros_like(location), location)

    def arguments(height, width, places):
        sizes = ((2 * height, 2 * width), (height, width))
        return (*(torch.randn(1, 7, *size) for size in sizes), torch.arange(places) * 5)

    height, width = (torch.export.Dim(name, min=2, max=64) for name in ("rows", "columns"))
    shapes = ({2: 2 * height, 3: 2 * width}, {2: height, 3: width}, {0: torch.export.Dim("places", min=1)})
    ways = exported(run, arguments(4, 6, 7), shapes)
    for size in ((4, 6, 7), (3, 5, 15), (8, 4, 1)):
        given = arguments(*size)
        for way in ways.values():
            torch.testing.assert_close(way(*given), run(*given), rtol=1e-4, atol=1e-5)
