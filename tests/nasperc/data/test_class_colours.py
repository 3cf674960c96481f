import numpy as np
import pytest

from nasperc.data.camvid import CAMVID_CLASSES
from nasperc.data.cityscapes import CITYSCAPES_CLASSES
from nasperc.data.class_colours import class_colours


@pytest.mark.parametrize("classes", [CAMVID_CLASSES, CITYSCAPES_CLASSES, tuple("abcdefgh"), ("one",)])
def test_a_colour_for_each_class_and_black_for_none(classes):
    colours = class_colours(classes)
    assert (colours.shape, colours.dtype) == ((len(classes), 3), np.uint8)
    assert len({tuple(colour) for colour in colours.tolist()} | {(0, 0, 0)}) == len(classes) + 1


def test_the_fields_own_colours():
    camvid = dict(zip(CAMVID_CLASSES, class_colours(CAMVID_CLASSES).tolist(), strict=True))
    assert (camvid["Sky"], camvid["Car"], camvid["Bicyclist"]) == ([128] * 3, [64, 0, 128], [0, 128, 192])
    cityscapes = dict(zip(CITYSCAPES_CLASSES, class_colours(CITYSCAPES_CLASSES).tolist(), strict=True))
    assert (cityscapes["road"], cityscapes["person"]) == ([128, 64, 128], [220, 20, 60])
    assert (cityscapes["sky"], cityscapes["bicycle"]) == ([70, 130, 180], [119, 11, 32])
