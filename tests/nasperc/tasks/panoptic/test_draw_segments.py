"""Overlays: what belongs to no segment stays, and segments can be told apart."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image

from nasperc.models.panoptic.segmentation import PanopticSegmentation
from nasperc.tasks.panoptic.draw_segments import _borders, _middle, draw_panoptic, segment_colours

NAMES = ("person", "cat", "sky")


def halves(size: tuple[int, int]) -> PanopticSegmentation:
    """Void on top, then a person on the left and one on the right, then sky."""
    height, width = size
    places = torch.zeros(size, dtype=torch.int64)
    places[height // 4 : height // 2, : width // 2] = 1
    places[height // 4 : height // 2, width // 2 :] = 2
    places[height // 2 :] = 3
    return PanopticSegmentation(places, torch.tensor([0, 0, 2]), scores=torch.tensor([0.9, 0.45, 1.0]))


def test_void_stays_and_segments_have_colours() -> None:
    size = (160, 200)
    grey = Image.new("RGB", size[::-1], (100, 100, 100))
    found = halves(size)
    draw_panoptic(grey, found, NAMES, things=2)
    pixels = np.asarray(grey).astype(int)
    assert (pixels[:39] == 100).all()
    colours = []
    for place, colour in enumerate(segment_colours([0, 0, 2]), start=1):
        inside = pixels[found.map.numpy() == place]
        values, counts = np.unique(inside, axis=0, return_counts=True)
        most = values[counts.argmax()]
        assert np.abs(most - (0.45 * 100 + 0.55 * np.array(colour))).max() < 1
        # Its name, in black on a bright ground.
        assert (inside.sum(axis=1) < 60).any()
        colours.append(tuple(most))
    assert len(set(colours)) == 3
    # The border above them, and the one between the first two.
    assert (pixels[39] == 255).all()
    assert (pixels[45:50, 99] == 255).all()


def test_segments_of_a_class_have_its_hue_and_differ() -> None:
    labels = [4, 4, 4, 7, 4]
    colours = segment_colours(labels)
    assert len(set(colours)) == len(labels)

    def hue(colour: tuple[int, int, int]) -> float:
        return colorsys.rgb_to_hls(*(channel / 255 for channel in colour))[0]

    of_four = [hue(colour) for label, colour in zip(labels, colours, strict=True) if label == 4]
    assert max(of_four) - min(of_four) < 0.02
    assert abs(hue(colours[3]) - of_four[0]) > 0.1
    assert len(set(segment_colours([1] * 40))) == 40


@pytest.mark.parametrize("size", [(6, 8), (1, 1), (300, 12)])
def test_pictures_smaller_than_a_name(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size[::-1])
    draw_panoptic(picture, halves(size), NAMES, things=2)
    assert picture.size == size[::-1]


def test_nothing_found_changes_nothing() -> None:
    picture = Image.new("RGB", (8, 6), (1, 2, 3))
    nothing = PanopticSegmentation(
        torch.zeros(6, 8, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), scores=torch.zeros(0)
    )
    draw_panoptic(picture, nothing, NAMES, things=2)
    assert set(picture.getdata()) == {(1, 2, 3)}


def test_a_name_stands_where_a_segment_is_wide() -> None:
    mask = np.zeros((9, 12), bool)
    mask[:, 2] = True
    mask[4:7, 2:10] = True
    assert _middle(mask) == (6, 5.5)
    assert _middle(np.zeros((3, 3), bool)) is None


def test_borders_lie_between_segments() -> None:
    places = np.array([[1, 1, 2], [1, 1, 2], [0, 0, 2]])
    assert _borders(places, 1).tolist() == [[False, True, False], [True, True, False], [False, True, False]]
