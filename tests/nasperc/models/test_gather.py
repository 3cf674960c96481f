import torch

from nasperc.models.gather import gather_locations
from nasperc.models.targets import flatten_levels


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
