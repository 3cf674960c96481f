from __future__ import annotations

from pathlib import Path

import torch

from nasperc.tasks.detection.final_agreement import FinalAgreement, Found, compare_found

SIZE = (100, 200)


def found(*scores: float) -> Found:
    """Detections of one class in one image, each in a box of its own."""
    corners = torch.arange(len(scores))[None, :, None] * 10.0
    boxes = torch.cat((corners, corners, corners + 8, corners + 8), dim=2)
    return Found(boxes, torch.tensor([scores]), torch.zeros(1, len(scores), dtype=torch.int64))


def agrees(expected: Found, given: Found) -> bool:
    return FinalAgreement.of(Path("a.onnx"), [SIZE], [compare_found(expected, given, SIZE)]).agrees


def test_neighbours_may_change_places_and_one_of_several_may_go() -> None:
    one = found(0.9, 0.5, 0.4)
    order = torch.tensor([0, 2, 1])
    assert agrees(one, Found(*(each[:, order] for each in one[:3] if each is not None)))
    assert agrees(one, found(0.9, 0.5, 0.0))


def test_the_only_one_may_not_go_nor_several() -> None:
    assert not agrees(found(0.9, 0.0), found(0.0, 0.0))
    assert not agrees(found(0.9, 0.5, 0.4), found(0.9, 0.0, 0.0))
    assert not agrees(found(0.0, 0.0), found(0.9, 0.5))
