import pytest
import torch

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from nasperc.models.named_levels import NamedLevels

BACKBONE = (FeatureSpec("C4", 4, 16), FeatureSpec("C5", 5, 32))
NECK = (FeatureSpec("P4", 8, 16), FeatureSpec("P5", 8, 32))


def test_levels_come_in_the_order_of_their_names() -> None:
    levels = NamedLevels(("P5", "C4"), BACKBONE, NECK, "here")
    assert levels.specs == (NECK[1], BACKBONE[0])
    maps = [torch.full((1,), value) for value in range(4)]
    assert levels.of(maps[:2], maps[2:]) == [maps[3], maps[0]]


def test_an_unknown_level_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InputError, match=r"got P3, C2 \(in recipe key x\).*Choose of C4, C5, P4, P5"):
        NamedLevels(("P3", "C4", "C2"), BACKBONE, NECK, "recipe key x")
