"""Masks over a picture, below the boxes and names of their objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from nasperc.tasks.detection.predict import class_colour, draw_objects

# How much of a pixel's colour is its object's.
_OPACITY = 0.5


def draw_segmented(picture: Image.Image, objects: Sequence[dict[str, Any]], classes: Sequence[str]) -> None:
    """Draw masks in the colours of their classes, the best on top, then boxes and names.

    Args:
        picture: RGB; drawn into.
        objects: with ``class``, ``score``, ``box`` and ``segmentation``, run lengths of the picture's size.
        classes: names in the order of the labels.
    """
    pixels = np.asarray(picture).astype(np.float32)
    for each in sorted(objects, key=lambda each: float(each["score"])):
        colour = class_colour(classes.index(each["class"]), len(classes))
        inside = coco_mask.decode(each["segmentation"]).astype(bool)
        pixels[inside] = (1 - _OPACITY) * pixels[inside] + _OPACITY * np.array(colour, np.float32)
    picture.paste(Image.fromarray(pixels.round().astype(np.uint8)))
    draw_objects(picture, objects, classes)
