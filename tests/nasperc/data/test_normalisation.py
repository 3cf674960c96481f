import pytest
import torch

from nasperc.data.normalisation import NORMALISATIONS, get_normalisation
from nasperc.errors import InputError

PIXEL = torch.tensor([255, 128, 0], dtype=torch.uint8).view(3, 1, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagenet", [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225]),
        ("tf", [1.0, 128 / 127.5 - 1, -1.0]),
        ("caffe", [0 - 103.53, 128 - 116.28, 255 - 123.675]),
    ],
)
def test_values_by_hand(name, expected):
    normalisation = get_normalisation(name)
    for image in (PIXEL, PIXEL.float(), PIXEL.expand(2, 3, 4, 5)):
        out = normalisation.apply(image)
        assert out.dtype == torch.float32
        assert out.shape == image.shape
        pixel = out.reshape(-1, 3, *out.shape[-2:])[-1, :, 0, 0]
        torch.testing.assert_close(pixel, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_input_is_left_as_it_is():
    image = PIXEL.float()
    for normalisation in NORMALISATIONS.values():
        normalisation.apply(image)
    assert image.flatten().tolist() == [255, 128, 0]


def test_unknown_name():
    with pytest.raises(InputError, match="one of imagenet, tf, caffe, but got 'torch'"):
        get_normalisation("torch")


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_mean_colour_is_mapped_to_zero_up_to_rounding(name):
    normalisation = NORMALISATIONS[name]
    colour = torch.tensor(normalisation.mean_colour, dtype=torch.uint8).view(3, 1, 1)
    assert normalisation.apply(colour).abs().max() <= 0.5 / min(normalisation.std)
