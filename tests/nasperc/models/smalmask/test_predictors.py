from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.smalmask.predictors import PREDICTORS, MaskPredictor, Objects
from nasperc.models.smalmask.recipe import PredictorName
from nasperc.models.targets import flatten_levels
from nasperc.ops.boxes import distances_to_boxes, locations
from nasperc.ops.deform_conv import DeformConv2d
from nasperc.ops.roi_align import roi_align
from nasperc.ops.roi_pred import RoIPred

STRIDES, SIZES = (8, 16), ((6, 9), (3, 5))
CHANNELS, OUT = 4, 6


def predictor_of(name: PredictorName, kernel: int, lower: tuple[int, ...] = (0, 0)) -> MaskPredictor:
    torch.manual_seed(0)
    predictor = PREDICTORS[name](CHANNELS, OUT, kernel, STRIDES, lower)
    for parameter in predictor.parameters():
        nn.init.normal_(parameter, std=0.3)
    return predictor


def drawn(lower: tuple[int, ...] = (0, 0)) -> tuple[list[Tensor], list[Tensor]]:
    """Maps by level of boxes, and the distances of the boxes at all locations."""
    torch.manual_seed(1)
    finer = [SIZES[level - each] if each else SIZES[level] for level, each in enumerate(lower)]
    maps = [torch.randn(2, CHANNELS, *size) for size in finer]
    return maps, [torch.rand(2, 4, *size) * 5 * stride for size, stride in zip(SIZES, STRIDES, strict=True)]


def everywhere(distances: list[Tensor]) -> Objects:
    """An object at every location."""
    boxes = [
        distances_to_boxes(locations(size, stride), each.permute(0, 2, 3, 1).flatten(1, 2))
        for size, stride, each in zip(SIZES, STRIDES, distances, strict=True)
    ]
    places = sum(height * width for height, width in SIZES)
    image = torch.arange(2).repeat_interleave(places)
    return Objects(image, torch.arange(places).repeat(2), torch.cat(boxes, 1).flatten(0, 1))


def dense(
    name: PredictorName, predictor: MaskPredictor, maps: list[Tensor], distances: list[Tensor]
) -> Tensor:
    """As the layers of the thesis at all locations: (2 P, O)."""
    kernel, weight, bias = predictor.kernel, predictor.conv.weight, predictor.conv.bias
    found = []
    for x, each, stride, lower in zip(maps, distances, STRIDES, predictor.lower, strict=True):
        if name == "conv":
            out = F.conv2d(x, weight, bias, padding=kernel // 2)
        elif name == "def_conv":
            layer = DeformConv2d(CHANNELS, OUT, kernel, 1)
            layer.load_state_dict(
                {
                    "weight": weight,
                    "bias": bias,
                    **{f"offset_mask.{key}": v for key, v in predictor.offset_mask.state_dict().items()},  # type: ignore[union-attr, operator]
                }
            )
            out = layer(x)
        elif name == "roi_pred":
            layer = RoIPred(CHANNELS, OUT, kernel)
            layer.load_state_dict({"weight": weight, "bias": bias})
            out = layer(x, each, stride, lower)
        else:
            out = F.conv2d(F.relu(predictor.align(x, each, stride, lower)), weight, bias, padding=kernel // 2)  # type: ignore[operator]
        found.append(out)
    return flatten_levels(found).flatten(0, 1)


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_at_single_locations_each_is_the_layer_at_all_of_them(name: PredictorName, kernel: int) -> None:
    predictor, (maps, distances) = predictor_of(name, kernel), drawn()
    objects = everywhere(distances)
    wanted = dense(name, predictor, maps, distances)
    torch.testing.assert_close(predictor(maps, objects, distances), wanted, atol=1e-4, rtol=1e-4)
    some = torch.tensor([130, 3, 60, 3])
    found = predictor(maps, Objects(*(each[some] for each in objects)), distances)
    torch.testing.assert_close(found, wanted[some], atol=1e-4, rtol=1e-4)
    assert predictor(maps, Objects(*(each[:0] for each in objects)), distances).shape == (0, OUT)


@pytest.mark.parametrize("name", ["roi_pred", "roi_conv"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_on_a_lower_map_they_are_the_layers_of_stride_two(name: PredictorName, kernel: int) -> None:
    """Equation 3.5, of the coarser level of boxes."""
    predictor, (maps, distances) = predictor_of(name, kernel, (0, 1)), drawn((0, 1))
    wanted = dense(name, predictor, maps, distances)
    found = predictor(maps, everywhere(distances), distances)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["conv", "def_conv"])
def test_the_others_are_centred_between_the_cells_of_a_lower_map(name: PredictorName) -> None:
    """At 2 k + 0.5: a map that rises by one a cell is there half a step higher than at 2 k."""
    predictor = PREDICTORS[name](CHANNELS, OUT, 3, STRIDES, (0, 1))
    nn.init.zeros_(predictor.conv.weight)
    nn.init.ones_(predictor.conv.weight[:, 0, 1, 1])
    rising = torch.arange(9.0).expand(1, CHANNELS, 6, 9)
    distances = [torch.ones(1, 4, *size) for size in SIZES]
    # The second column of the second row of the coarser level.
    location = torch.tensor([6 * 9 + 5 + 1])
    objects = Objects(torch.zeros(1, dtype=torch.int64), location, torch.zeros(1, 4))
    # A modulation of a half: its layer begins at zero.
    factor = 0.5 if name == "def_conv" else 1.0
    found = predictor([rising, rising], objects, distances)
    torch.testing.assert_close(found, torch.full((1, OUT), 2.5 * factor))


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_roi_pred_is_small_head_with_the_same_parameters(kernel: int) -> None:
    """Figure 3.4: RoIAlign with one sample a bin, then one linear layer, of boxes that leave the image too."""
    predictor, (maps, distances) = predictor_of("roi_pred", kernel), drawn()
    objects = everywhere(distances)
    level = (objects.location >= SIZES[0][0] * SIZES[0][1]).long()
    found = predictor.at(maps, objects.image, level, objects.boxes)  # type: ignore[operator]
    linear = nn.Linear(CHANNELS * kernel**2, OUT)
    linear.load_state_dict({"weight": predictor.conv.weight.flatten(1), "bias": predictor.conv.bias})
    for number, stride in enumerate(STRIDES):
        here = level == number
        boxes, image = objects.boxes[here], objects.image[here]
        pooled = roi_align(maps[number], boxes, image, (kernel, kernel), 1 / stride, sampling_ratio=1)
        torch.testing.assert_close(found[here], linear(pooled.flatten(1)), atol=1e-4, rtol=1e-4)
