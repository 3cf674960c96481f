"""The merging rule by hand, and against the rule written out pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasperc.models.instances import Instances
from nasperc.models.panoptic.merge import MergeRecipe, merge, merge_instances
from nasperc.models.panoptic.segmentation import PanopticSegmentation
from nasperc.ops.paste_masks import Region

# Two things, stuff from 1 on in the semantic map and from 2 on among the labels.
THINGS = 2
ANY_STUFF = MergeRecipe(stuff_area=0)


def region(text: str, left: int = 0) -> Region:
    """One row: "#" for a pixel of it."""
    return Region(0, left, torch.tensor([[each == "#" for each in text]]))


def merged(
    regions: list[tuple[Region, int, float]], semantic: str, recipe: MergeRecipe = ANY_STUFF
) -> tuple[str, list[int], list[float]]:
    """Places as digits, labels and scores. ``regions``: with label and score."""
    found = merge(
        [each[0] for each in regions],
        torch.tensor([each[1] for each in regions], dtype=torch.int64),
        torch.tensor([each[2] for each in regions]),
        torch.tensor([[int(each) for each in semantic]]),
        THINGS,
        recipe,
    )
    assert found.scores is not None
    scores = [round(score, 3) for score in found.scores.tolist()]
    return "".join(map(str, found.map[0].tolist())), found.labels.tolist(), scores


def test_the_defaults_are_the_thesis_s() -> None:
    """4.4.4, and the limit of Panoptic-FPN."""
    assert MergeRecipe() == MergeRecipe(confidence=0.2, overlap=0.4, stuff_area=4096)


def test_better_instances_come_first_and_stuff_fills_the_rest() -> None:
    places = merged([(region("###"), 1, 0.9), (region("####", 2), 0, 0.5)], "1112220022")
    # The second has one of its four pixels covered.
    assert places == ("1112220033", [1, 0, 3], [0.9, 0.5, 1.0])


def test_what_is_not_sure_is_left_out() -> None:
    recipe = MergeRecipe(confidence=0.5, stuff_area=0)
    found = merged([(region("##"), 0, 0.5), (region("##", 2), 0, 0.49)], "00000", recipe)
    assert found == ("11000", [0], [0.5])


def test_instances_that_others_cover_are_left_out() -> None:
    first = (region("##"), 0, 0.9)
    # 2 of 5 pixels are covered: 0.4, which may be.
    assert merged([first, (region("#####"), 1, 0.8)], "00000")[0] == "11222"
    # 2 of 4 are too many.
    assert merged([first, (region("####"), 1, 0.8)], "00000")[0] == "11000"
    # What was left out covers nothing.
    assert merged([first, (region("####"), 1, 0.8), (region("##", 2), 0, 0.7)], "00000")[0] == "11220"


def test_an_instance_without_a_pixel_is_none() -> None:
    assert merged([(region("..."), 0, 0.9), (region("#"), 1, 0.8)], "000") == ("100", [1], [0.8])
    nothing = Region(5, 7, torch.zeros(0, 0, dtype=torch.bool))
    assert merged([(nothing, 0, 0.9)], "000") == ("000", [], [])


def test_small_stuff_is_void() -> None:
    recipe = MergeRecipe(stuff_area=3)
    # Of class 1 two pixels are left beside the instance.
    assert merged([(region("##"), 0, 0.9)], "1111222", recipe) == ("1100222", [0, 3], [0.9, 1.0])
    assert merged([], "1111222", MergeRecipe(stuff_area=4)) == ("1111000", [2], [1.0])


def test_pixels_of_things_without_an_instance_are_void() -> None:
    assert merged([], "00110") == ("00110", [2], [1.0])
    assert merged([], "000") == ("000", [], [])


def test_stuff_that_instances_cover_altogether_is_none() -> None:
    assert merged([(region("##"), 0, 0.9)], "5511") == ("1122", [0, 2], [0.9, 1.0])
    assert merged([(region("####"), 0, 0.9)], "5555") == ("1111", [0], [0.9])


def slowly(
    masks: torch.Tensor, labels: list[int], scores: list[float], semantic: torch.Tensor, recipe: MergeRecipe
) -> tuple[list[int], list[int]]:
    """(places of the pixels, labels of the segments), pixels as sets; ``masks`` (D, P), ``semantic`` (P,)."""
    pixels = range(len(semantic))
    taken: dict[int, int] = {}
    kept: list[int] = []
    for mask, label, score in zip(masks.tolist(), labels, scores, strict=True):
        of_it = {p for p in pixels if mask[p]}
        if score < recipe.confidence or not of_it:
            continue
        covered = of_it & taken.keys()
        if len(covered) / len(of_it) > recipe.overlap:
            continue
        kept.append(label)
        taken.update({p: len(kept) for p in of_it - covered})
    for kind in sorted(set(semantic.tolist()) - {0}):
        free = [p for p in pixels if semantic[p] == kind and p not in taken]
        if free and len(free) >= recipe.stuff_area:
            kept.append(kind - 1 + THINGS)
            taken.update({p: len(kept) for p in free})
    return [taken.get(p, 0) for p in pixels], kept


@given(st.data())
def test_it_is_its_rule(data: st.DataObject) -> None:
    size, count = 16, data.draw(st.integers(0, 5))
    runs = [data.draw(st.tuples(st.integers(0, size), st.integers(0, 8))) for _ in range(count)]
    masks = torch.zeros(count, size, dtype=torch.bool)
    for mask, (start, length) in zip(masks, runs, strict=True):
        mask[start : start + length] = True
    labels = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    tenths = data.draw(st.lists(st.integers(0, 10), min_size=count, max_size=count))
    scores = [each / 10 for each in sorted(tenths, reverse=True)]
    semantic = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    recipe = MergeRecipe(
        confidence=data.draw(st.sampled_from([0.0, 0.25, 0.55])),
        overlap=data.draw(st.sampled_from([0.0, 0.3, 0.45, 0.9])),
        stuff_area=data.draw(st.integers(0, 4)),
    )
    found = merge(
        [Region(0, 0, mask[None]) for mask in masks],
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(scores),
        semantic[None],
        THINGS,
        recipe,
    )
    assert (found.map[0].tolist(), found.labels.tolist()) == slowly(masks, labels, scores, semantic, recipe)
    assert (found.areas() > 0).all()


def test_detections_are_pasted_into_the_image() -> None:
    """Boxes that reach out of it, and masks of which a half is the object."""
    masks = torch.zeros(3, 4, 4)
    masks[:, :, :2] = 1
    boxes = torch.tensor([[-4.0, 0, 4, 8], [2.0, 2, 10, 6], [8.0, 0, 16, 8]])
    found = Instances(boxes, torch.tensor([1, 0, 0]), scores=torch.tensor([0.9, 0.6, 0.1]), masks=masks)
    semantic = torch.ones(8, 12, dtype=torch.int64)
    segmentation = merge_instances(found, semantic, THINGS, ANY_STUFF)
    assert isinstance(segmentation, PanopticSegmentation)
    # The first one's half lies outside.
    expected = torch.full((8, 12), 2)
    expected[2:6, 2:6] = 1
    assert torch.equal(segmentation.map, expected)
    assert segmentation.labels.tolist() == [0, 2]


def test_a_mask_may_lie_in_another_box_than_the_clipped_one() -> None:
    pooled = torch.tensor([[-2.0, 0.0, 2.0, 2.0]])
    masks = torch.tensor([[[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]]])
    clipped = Instances(
        torch.tensor([[0.0, 0.0, 2.0, 2.0]]),
        torch.tensor([0]),
        scores=torch.tensor([0.9]),
        masks=masks,
    )
    squeezed, cut = (
        merge_instances(found, torch.zeros(2, 4, dtype=torch.int64), THINGS, ANY_STUFF).map.tolist()
        for found in (clipped, clipped.with_fields(pooled=pooled))
    )
    assert cut == [[1, 0, 0, 0], [1, 0, 0, 0]]
    assert squeezed != cut


@pytest.mark.parametrize("keys", [{"overlap": 1}, {"confidence": -0.1}, {"stuff_area": -1}, {"other": 1}])
def test_impossible_limits_are_refused(keys: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        MergeRecipe.model_validate(keys)
