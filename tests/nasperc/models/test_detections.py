from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasperc.models.detections import drop_empty, keep_best
from nasperc.models.instances import Instances


def candidates(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Instances:
    """``location`` has the number of each."""
    return Instances(
        torch.tensor(boxes).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores),
        location=torch.arange(len(boxes)),
    )


def numbers(found: Instances) -> list[int]:
    assert found.location is not None
    return found.location.tolist()


def test_boxes_without_an_area_are_dropped_with_all_that_belongs_to_them() -> None:
    boxes = [[0.0, 0, 4, 4], [3.0, 0, 3, 4], [0.0, 2, 4, 2], [4.0, 4, 2, 2], [1.0, 1, 2, 3]]
    found = drop_empty(candidates(boxes, [0.5, 0.6, 0.7, 0.8, 0.9], [0, 1, 2, 3, 4]))
    assert numbers(found) == [0, 4]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 4]


def test_a_class_suppresses_its_own_only() -> None:
    box, near, far = [0.0, 0, 10, 10], [0.0, 0, 10, 9], [20.0, 20, 30, 30]
    found = keep_best(candidates([box, near, near, far], [0.9, 0.8, 0.7, 0.95], [0, 0, 1, 0]), 0.5, 100)
    assert numbers(found) == [3, 0, 2]


def test_without_candidates_there_are_no_detections() -> None:
    found = keep_best(candidates([], [], []), 0.5, 100)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert numbers(found) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=12), st.integers(1, 6))
def test_the_best_stay_and_all_that_tie_with_the_last_of_them(scores: list[float], count: int) -> None:
    apart = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(len(scores))]
    found = keep_best(candidates(apart, scores, [0] * len(scores)), 0.5, count)
    last = sorted(scores, reverse=True)[:count][-1:] or [0.0]
    assert sorted(numbers(found)) == [i for i, score in enumerate(scores) if score >= last[0]]
    assert found.scores is not None
    assert (found.scores.diff() <= 0).all()
