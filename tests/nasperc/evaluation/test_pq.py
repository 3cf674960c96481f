"""Panoptic quality against cases counted by hand, and against its definition written out slowly."""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasperc.evaluation.pq import PanopticEvaluation, PanopticMetrics
from nasperc.models.panoptic.segmentation import PanopticSegmentation

# Classes 0 and 1 are things, 2 and 3 stuff.
THINGS, STUFF = 2, 2
NAMES = ("a", "b", "sky", "sea")


def row(text: str, labels: list[int], crowd: str = "") -> PanopticSegmentation:
    """An image of one row: a digit a pixel, "." for void; ``crowd``: the digits of crowds."""
    places = torch.tensor([[0 if each == "." else int(each) for each in text]])
    of_many = torch.tensor([str(k + 1) in crowd for k in range(len(labels))], dtype=torch.bool)
    return PanopticSegmentation(places, torch.tensor(labels, dtype=torch.int64), of_many)


def measured(*pairs: tuple[PanopticSegmentation, PanopticSegmentation]) -> PanopticMetrics:
    evaluation = PanopticEvaluation(THINGS, STUFF)
    for prediction, truth in pairs:
        evaluation.add(prediction, truth)
    return evaluation.metrics(NAMES)


def quality(prediction: PanopticSegmentation, truth: PanopticSegmentation) -> dict[str, float | None]:
    return measured((prediction, truth)).per_class


def test_the_truth_is_perfect() -> None:
    truth = row("1122233..", [0, 0, 2])
    found = measured((truth, truth))
    assert found == PanopticMetrics(1, 1, 1, 1, 1, 1, 1, 1, 1, {"a": 1, "b": None, "sky": 1, "sea": None})


def test_a_match_counts_its_iou() -> None:
    found = measured((row("1111..", [0]), row("11111.", [0])))
    assert (found.pq, found.sq, found.rq) == (pytest.approx(4 / 5), pytest.approx(4 / 5), 1)
    found = measured((row(".11112", [0, 2]), row("111122", [0, 2])))
    # a: 3 shared of 5; sky: 1 of 2 is no match, but a miss and a false alarm.
    assert found.per_class == {"a": pytest.approx(3 / 5), "b": None, "sky": 0, "sea": None}
    assert (found.sq, found.rq) == (pytest.approx(3 / 10), 0.5)
    assert (found.pq_things, found.pq_stuff) == (pytest.approx(3 / 5), 0)


def test_one_half_is_no_match() -> None:
    assert quality(row("1122", [0, 1]), row("1222", [0, 1])) == {
        "a": 0,
        "b": pytest.approx(2 / 3),
        "sky": None,
        "sea": None,
    }


def test_void_of_the_annotation_is_no_part_of_the_union() -> None:
    """The prediction covers 4 pixels of the object, and 3 of void: IoU 1, not 4 / 7."""
    assert quality(row("1111111", [0]), row("1111...", [0]))["a"] == 1
    # Void in the prediction is what was not found: 2 of 4 is no match.
    assert quality(row("11..", [0]), row("1111", [0]))["a"] == 0


def test_what_lies_in_void_is_no_false_alarm() -> None:
    # More than half void: dropped. The object of class a is a miss.
    found = measured((row("..1112", [1, 0]), row("1111..".replace("1111", "111."), [0])))
    assert found.per_class["b"] is None
    # Exactly half void: counted.
    assert quality(row("..11", [1]), row("111.", [0]))["b"] == 0
    # All of it void.
    assert quality(row("11..", [1]), row("....", [])) == dict.fromkeys(NAMES)


def test_crowds() -> None:
    crowd = row("1111..22", [0, 2], crowd="1")
    # Nobody has to find them.
    assert quality(row("......11", [2]), crowd) == {"a": None, "b": None, "sky": 1, "sea": None}
    # What is found in them, of their class, is no false alarm; another class is one.
    assert quality(row("11....22", [0, 2]), crowd)["a"] is None
    assert quality(row("11....22", [1, 2]), crowd)["b"] == 0
    # One that covers all of it matches nothing either.
    assert quality(row("1111..22", [0, 2]), crowd)["a"] is None
    # Half in the crowd, half in the sky: a false alarm. With one pixel of void more it is none.
    assert quality(row("..11..11", [0]), row("1111..22", [0, 2], crowd="1"))["a"] == 0
    assert quality(row("..111.11", [0]), row("1111..22", [0, 2], crowd="1"))["a"] is None


def test_several_crowds_of_a_class_count_together() -> None:
    truth = row("1122333", [0, 0, 2], crowd="12")
    assert quality(row("1111122", [0, 2]), truth)["a"] is None


def test_one_segment_over_two_matches_the_one_it_mostly_is() -> None:
    # 5 pixels over 4 and 1: matches the larger, IoU 4 / 5; the smaller is a miss.
    found = measured((row("11111", [0]), row("11112", [0, 0])))
    assert found.pq == pytest.approx(4 / 5 / 1.5)
    assert (found.sq, found.rq) == (pytest.approx(4 / 5), pytest.approx(1 / 1.5))
    # Over two halves it matches neither.
    found = measured((row("1111", [0]), row("1122", [0, 0])))
    assert (found.pq, found.sq, found.rq) == (0, 0, 0)


def test_small_overlaps_are_misses_and_false_alarms() -> None:
    found = measured((row("122223", [0, 1, 2]), row("113222", [0, 1, 2])))
    assert found.per_class == {"a": 0, "b": 0, "sky": 0, "sea": None}
    # With one pixel more b has 3 of 4, and the sky is found.
    found = measured((row("122223", [0, 1, 2]), row("112223", [0, 1, 2])))
    assert found.per_class == {"a": 0, "b": pytest.approx(3 / 4), "sky": 1, "sea": None}


def test_classes_that_do_not_occur_are_no_part_of_the_means() -> None:
    empty = measured()
    assert empty == PanopticMetrics(*[None] * 9, dict.fromkeys(NAMES))
    found = measured((row("11", [2]), row("11", [2])))
    assert (found.pq, found.pq_things, found.pq_stuff) == (1, None, 1)


def test_images_add_up() -> None:
    good = row("11", [0]), row("11", [0])
    bad = row("11", [1]), row("11", [0])
    found = measured(good, bad, good)
    # a: two matches, one miss; b: a false alarm.
    assert found.per_class == {"a": pytest.approx(2 / 2.5), "b": 0, "sky": None, "sea": None}


def test_a_segment_without_a_pixel_is_none() -> None:
    assert quality(row("11", [0, 1]), row("11", [0]))["b"] is None


def test_what_does_not_fit_is_refused() -> None:
    evaluation = PanopticEvaluation(THINGS, STUFF)
    with pytest.raises(ValueError, match="for an image of"):
        evaluation.add(row("11", [0]), row("111", [0]))
    with pytest.raises(ValueError, match=r"in 0\.\.3"):
        evaluation.add(row("11", [4]), row("11", [0]))


def slow_counts(
    prediction: PanopticSegmentation, truth: PanopticSegmentation
) -> dict[int, tuple[Fraction, int, int, int]]:
    """By class: sum of IoU, matches, false alarms, misses, from sets of pixels."""

    def pixels(segmentation: PanopticSegmentation) -> list[set[int]]:
        flat = segmentation.map.flatten().tolist()
        return [{p for p, place in enumerate(flat) if place == k + 1} for k in range(len(segmentation))]

    found, known = pixels(prediction), pixels(truth)
    everything = set(range(truth.map.numel()))
    void = everything - set().union(*known)
    assert truth.crowd is not None
    iou: dict[int, Fraction] = defaultdict(Fraction)
    matches: dict[int, int] = defaultdict(int)
    alarms: dict[int, int] = defaultdict(int)
    misses: dict[int, int] = defaultdict(int)
    used: set[int] = set()
    for label, crowd, shape in zip(truth.labels.tolist(), truth.crowd.tolist(), known, strict=True):
        if crowd:
            continue
        of_it = []
        for k, (other, mask) in enumerate(zip(prediction.labels.tolist(), found, strict=True)):
            union = shape | (mask - void)
            share = Fraction(len(shape & mask), len(union)) if union else Fraction(0)
            if other == label and share > Fraction(1, 2):
                of_it.append((k, share))
        assert len(of_it) <= 1
        for k, share in of_it:
            assert k not in used
            used.add(k)
            iou[label] += share
            matches[label] += 1
        misses[label] += not of_it
    for k, (label, mask) in enumerate(zip(prediction.labels.tolist(), found, strict=True)):
        ignored = set(void)
        for other, crowd, shape in zip(truth.labels.tolist(), truth.crowd.tolist(), known, strict=True):
            ignored |= shape if crowd and other == label else set()
        if mask and k not in used and not 2 * len(mask & ignored) > len(mask):
            alarms[label] += 1
    return {k: (iou[k], matches[k], alarms[k], misses[k]) for k in range(THINGS + STUFF)}


@st.composite
def segmentations(draw: st.DrawFn, size: int) -> PanopticSegmentation:
    labels = draw(st.lists(st.integers(0, THINGS + STUFF - 1), max_size=5))
    # Runs of pixels, so that segments overlap by more than chance.
    places: list[int] = []
    while len(places) < size:
        places += [draw(st.integers(0, len(labels)))] * draw(st.integers(1, 6))
    shown = sorted(set(places[:size]) - {0})
    return PanopticSegmentation(
        torch.tensor([[shown.index(k) + 1 if k else 0 for k in places[:size]]]),
        torch.tensor([labels[k - 1] for k in shown], dtype=torch.int64),
        torch.tensor(
            draw(st.lists(st.booleans(), min_size=len(shown), max_size=len(shown))), dtype=torch.bool
        ),
    )


@given(st.lists(st.tuples(segmentations(24), segmentations(24)), min_size=1, max_size=3))
def test_it_is_its_definition(pairs: list[tuple[PanopticSegmentation, PanopticSegmentation]]) -> None:
    found = measured(*pairs)
    sums: dict[int, list[float]] = {k: [0.0] * 4 for k in range(THINGS + STUFF)}
    for prediction, truth in pairs:
        for k, counts in slow_counts(prediction, truth).items():
            sums[k] = [old + float(new) for old, new in zip(sums[k], counts, strict=True)]
    values: dict[int, tuple[float, float, float]] = {}
    for k, (iou, matches, alarms, misses) in sums.items():
        if matches + alarms + misses:
            weight = matches + alarms / 2 + misses / 2
            values[k] = (iou / weight, iou / matches if matches else 0.0, matches / weight)
    for suffix, chosen in (("", range(4)), ("_things", range(2)), ("_stuff", range(2, 4))):
        for place, name in enumerate(("pq", "sq", "rq")):
            of_them = [values[k][place] for k in chosen if k in values]
            mean = getattr(found, name + suffix)
            if of_them:
                assert math.isclose(mean, sum(of_them) / len(of_them), abs_tol=1e-12)
            else:
                assert mean is None
    assert {k for k, name in enumerate(NAMES) if found.per_class[name] is not None} == values.keys()
