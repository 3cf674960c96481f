from __future__ import annotations

import pytest

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from nasperc.models.smalmask.levels import mask_levels

LEVELS = tuple(FeatureSpec(f"P{level}", 8, 2**level) for level in range(3, 8))


@pytest.mark.parametrize(
    ("names", "source", "lower"),
    [
        (None, (0, 1, 2, 3, 4), (0, 0, 0, 0, 0)),
        ("P3 P4 P5 P6 P7", (0, 1, 2, 3, 4), (0, 0, 0, 0, 0)),
        ("P3 P4 P5 P6 P6", (0, 1, 2, 3, 3), (0, 0, 0, 0, 1)),
        ("P3 P3 P4 P5 P6", (0, 0, 1, 2, 3), (0, 1, 1, 1, 1)),
        ("P3 P3 P3 P3 P3", (0, 0, 0, 0, 0), (0, 1, 2, 3, 4)),
    ],
)
def test_the_rows_of_table_3_4(names: str | None, source: tuple[int, ...], lower: tuple[int, ...]) -> None:
    found = mask_levels(None if names is None else tuple(names.split()), LEVELS)
    assert (found.source, found.lower) == (source, lower)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("P2 P3 P4 P5 P6", r"got P2, .*smalmask\.levels.*Give 5 of P3, P4, P5, P6, P7"),
        ("P3 P3 P4 P5", "got P3, P3, P4, P5 .*Give 5 of"),
        ("P4 P4 P5 P6 P7", "got P4, P4, .*these or lower ones"),
    ],
)
def test_others_are_refused(names: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mask_levels(tuple(names.split()), LEVELS)
