"""The colours that label maps are shown in: the field's own where a data set has some."""

from __future__ import annotations

import numpy as np

from nasperc.data.camvid import CAMVID_CLASSES
from nasperc.data.cityscapes import CITYSCAPES_CLASSES
from nasperc.data.label_map import label_colours

# label_colors.txt of CamVid (Brostow et al. 2009), of the eleven classes that SegNet joined its 32 to.
_CAMVID = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip
# cityscapesScripts, helpers/labels.py, in the order of the train ids.
_CITYSCAPES = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
    (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
    (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
_KNOWN = {CAMVID_CLASSES: _CAMVID, CITYSCAPES_CLASSES: _CITYSCAPES}


def class_colours(classes: tuple[str, ...]) -> np.ndarray:
    """(len(classes), 3) uint8, RGB: CamVid's and Cityscapes' own, of other classes distinct ones."""
    known = _KNOWN.get(classes)
    return label_colours(len(classes)) if known is None else np.array(known, np.uint8)
