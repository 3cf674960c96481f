"""The preset ``adelaidet`` as a whole, against that implementation's rules written out slowly."""

from __future__ import annotations

import pytest
import torch
from adelaidet_reference import STRIDES, Box, Level, detections, losses, network_input
from hypothesis import given, settings
from hypothesis import strategies as st

from nasperc.data.batch import collate
from nasperc.data.normalisation import get_normalisation
from nasperc.data.sample import Meta, Sample
from nasperc.models.fcos.decode import detect
from nasperc.models.fcos.losses import fcos_losses
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.targets import fcos_targets
from nasperc.models.features import HeadOutput
from nasperc.models.targets import stack_targets

ADELAIDET = PRESETS["adelaidet"]
CLASSES = 2


def random_levels(seed: int, size: tuple[int, int], images: int = 1, classes: int = CLASSES) -> list[Level]:
    """Outputs of a network for ``size`` (H, W), of all magnitudes; some boxes are empty."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for stride in STRIDES:
        shape = [-(-extent // stride) for extent in size]
        logits, distances, centerness = (
            torch.randn(images, channels, *shape, generator=generator) for channels in (classes, 4, 1)
        )
        levels.append(Level(logits, (distances * 2 + 1).clamp(min=0), centerness))
    return levels


def output_of(levels: list[Level]) -> HeadOutput:
    """The same as our head hands it over: boxes in pixels."""
    boxes = [level.distances * stride for level, stride in zip(levels, STRIDES, strict=True)]
    return HeadOutput([], [], [x.logits for x in levels], boxes, [x.centerness for x in levels])


@st.composite
def objects(draw: st.DrawFn) -> list[tuple[Box, int]]:
    """On a grid of 4 pixels, where locations lie: distances of exactly 64 or 128 and equal areas occur."""
    found: list[tuple[Box, int]] = []
    for _ in range(draw(st.integers(0, 5))):
        left, top = (4 * draw(st.integers(0, 40)) for _ in range(2))
        width, height = (4 * draw(st.integers(1, 40)) for _ in range(2))
        found.append(([left, top, left + width, top + height], draw(st.integers(0, CLASSES - 1))))
    return found


@settings(max_examples=20, deadline=None)
@given(st.lists(objects(), min_size=2, max_size=2), st.integers(0, 100))
def test_targets_and_losses(truth: list[list[tuple[Box, int]]], seed: int) -> None:
    levels = random_levels(seed, (160, 192), images=2)
    targets = [
        fcos_targets(
            torch.tensor([box for box, _ in each]).reshape(-1, 4),
            torch.tensor([label for _, label in each], dtype=torch.int64),
            torch.zeros(len(each), dtype=torch.bool),
            [tuple(level.logits.shape[-2:]) for level in levels],
            STRIDES,
            ADELAIDET.sizes_of_interest,
            ADELAIDET.centre_sampling_radius,
        )
        for each in truth
    ]
    found = fcos_losses(output_of(levels), stack_targets(targets), ADELAIDET, STRIDES)
    assert [x.item() for x in found] == pytest.approx(losses(levels, truth), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("size", "classes"), [((100, 150), 20), ((256, 320), 1)])
def test_detections(seed: int, size: tuple[int, int], classes: int) -> None:
    padded = (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
    levels = random_levels(seed, padded, classes=classes)
    original = (3 * size[0] // 2, 2 * size[1])  # factors without rounding: a box on the border stays empty
    (found,) = detect(output_of(levels), STRIDES, [size], ADELAIDET)
    found = found.rescale(size, original)
    wanted = detections(levels, 0, size, original)
    assert len(wanted) > 50
    assert found.labels.tolist() == [each.label for each in wanted]
    torch.testing.assert_close(found.scores, torch.tensor([each.score for each in wanted]))
    torch.testing.assert_close(found.boxes, torch.tensor([each.box for each in wanted]))


def silent(size: tuple[int, int]) -> list[Level]:
    """A network that sees nothing, for single values to be set; every box is 2 x 2 strides."""
    return [
        Level(torch.full_like(level.logits, -20), torch.ones_like(level.distances), level.centerness * 0)
        for level in random_levels(0, size, classes=1)
    ]


def test_empty_boxes_take_places_and_are_dropped_at_the_end() -> None:
    levels = silent((128, 128))
    levels[0].logits[0, 0, :15, :].fill_(2.0)
    levels[0].distances[0].fill_(0.4)  # in strides: no two boxes overlap
    levels[0].distances[0, :, 0].zero_()
    levels[0].logits[0, 0, 0] = 3.0
    (found,) = detect(output_of(levels), STRIDES, [(128, 128)], ADELAIDET)
    # 16 empty ones before 224 that tie: all of these tie with the 100th.
    assert len(found.scores) == 240
    assert len(found.rescale((128, 128), (128, 128)).scores) == 224
    levels[0].logits[0, 0, 1:8] += torch.linspace(0.1, 0.9, 7 * 16).view(7, 16)
    (found,) = detect(output_of(levels), STRIDES, [(128, 128)], ADELAIDET)
    assert len(found.scores) == 100
    assert (
        len(found.rescale((128, 128), (128, 128)).scores)
        == 84
        == len(detections(levels, 0, *[(128, 128)] * 2))
    )


def test_input() -> None:
    rgb = torch.randint(0, 256, (3, 40, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    caffe = get_normalisation("caffe")
    batch = collate([Sample(rgb, Meta(0, "x.png", (40, 70)))], caffe)  # type: ignore[arg-type]
    torch.testing.assert_close(batch.images, network_input(rgb))
    assert batch.sizes == [(40, 70)]
