"""A panoptic segmentation over its picture: every segment in a colour of its class, with a border and its name."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from nasperc.models.panoptic.segmentation import PanopticSegmentation
from nasperc.tasks.detection.predict import Label, label_font, labels_overlap

# How much of a pixel's colour is its segment's.
_OPACITY = 0.55
# Neighbours on the list of classes are far apart on the wheel.
_GOLDEN = 0.618_034
# Of segments of one class: lightness, and a little of the hue.
_LIGHTNESS = (0.6, 0.75, 0.5, 0.67, 0.42)


def draw_panoptic(
    picture: Image.Image, found: PanopticSegmentation, names: Sequence[str], things: int
) -> None:
    """Draw segments, then names from the largest on, where they hide no other one.

    Args:
        picture: RGB, of the segmentation's size; drawn into.
        found: the segments; void stays as it is.
        names: by label.
        things: how many of the names are things: of these each has a colour of its own, and shows its score.
    """
    places, labels = found.map.cpu().numpy(), found.labels.tolist()
    colours = np.array([(0, 0, 0), *segment_colours(labels)], np.float32)
    pixels = np.asarray(picture).astype(np.float32)
    inside = places > 0
    pixels[inside] = (1 - _OPACITY) * pixels[inside] + _OPACITY * colours[places[inside]]
    pixels[_borders(places, max(1, min(picture.size) // 400))] = 255
    picture.paste(Image.fromarray(pixels.round().astype(np.uint8)))
    scores = [None] * len(labels) if found.scores is None else found.scores.tolist()
    _draw_names(
        picture,
        places,
        found.areas().argsort(descending=True, stable=True).tolist(),
        [
            names[label] if label >= things or score is None else f"{names[label]} {score:.2f}"
            for label, score in zip(labels, scores, strict=True)
        ],
        colours[1:],
    )


def segment_colours(labels: Sequence[int]) -> list[tuple[int, int, int]]:
    """RGB of each segment: the hue is that of its class, segments of one class differ in lightness."""
    seen: Counter[int] = Counter()
    colours = []
    for label in labels:
        number = seen[label]
        seen[label] += 1
        hue = (label * _GOLDEN + 0.013 * (number // len(_LIGHTNESS))) % 1
        rgb = colorsys.hls_to_rgb(hue, _LIGHTNESS[number % len(_LIGHTNESS)], 0.85)
        colours.append((round(rgb[0] * 255), round(rgb[1] * 255), round(rgb[2] * 255)))
    return colours


def _draw_names(
    picture: Image.Image, places: np.ndarray, order: Sequence[int], texts: Sequence[str], colours: np.ndarray
) -> None:
    draw, font = ImageDraw.Draw(picture), label_font(picture)
    taken: list[Label] = []
    for index in order:
        middle = _middle(places == index + 1)
        if middle is None:
            continue
        left, top, right, bottom = draw.textbbox((0, 0), texts[index], font=font)
        width, height = right - left + 4, bottom - top + 4
        x = min(max(0.0, middle[0] - width / 2), max(0.0, picture.width - width))
        y = min(max(0.0, middle[1] - height / 2), max(0.0, picture.height - height))
        label = (x, y, x + width, y + height)
        if any(labels_overlap(label, other) for other in taken):
            continue
        taken.append(label)
        red, green, blue = (round(255 - 0.5 * (255 - channel)) for channel in colours[index].tolist())
        draw.rectangle(label, fill=(red, green, blue))
        draw.text((x + 2 - left, y + 2 - top), texts[index], fill="black", font=font)


def _middle(mask: np.ndarray) -> tuple[float, float] | None:
    """(x, y) in the middle of a long row of a segment (H, W); None of one without a pixel."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    lengths = np.nonzero(edges == -1)[1] - starts
    if not len(rows):
        return None
    # Of rows that are nearly as long as the longest one the one in their middle.
    long = np.flatnonzero(lengths >= 0.9 * lengths.max())
    chosen = long[len(long) // 2]
    return float(starts[chosen] + lengths[chosen] / 2), float(rows[chosen] + 0.5)


def _borders(places: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool: the pixels that have another segment, or void, within ``width`` to the right or below."""
    border = np.zeros(places.shape, bool)
    for step in range(1, width + 1):
        border[:-step] |= places[:-step] != places[step:]
        border[:, :-step] |= places[:, :-step] != places[:, step:]
    return border
