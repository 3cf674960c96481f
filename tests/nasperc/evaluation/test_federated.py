"""AP by the rules of federated annotations: by hand, and against COCO's where everything is annotated everywhere."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nasperc.evaluation.coco_ap import coco_ap
from nasperc.evaluation.federated import is_federated, of_known_categories

CAT, DOG, COW = 1, 2, 3


def truth(images: list[dict[str, Any]], objects: list[tuple[int, int, list[int]]]) -> dict[str, Any]:
    """Images in order of their ids; objects as image, category and box."""
    return {
        "images": [{"id": k, "height": 100, "width": 100, **each} for k, each in enumerate(images, 1)],
        "categories": [{"id": k, "name": name} for k, name in ((CAT, "cat"), (DOG, "dog"), (COW, "cow"))],
        "annotations": [
            {
                "id": k,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for k, (image, category, box) in enumerate(objects, 1)
        ],
    }


def detection(image: int, category: int, box: list[int], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def lists(negative: tuple[int, ...] = (), not_exhaustive: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"neg_category_ids": list(negative), "not_exhaustive_category_ids": list(not_exhaustive)}


ONE, OTHER, THIRD = [10, 10, 20, 20], [60, 60, 30, 30], [10, 60, 20, 20]


def test_a_category_that_nothing_is_known_of_does_not_count() -> None:
    # A dog found before the cat's hit, in an image where cats alone are annotated; and one cat where none is known of.
    images = [lists(), lists()]
    found = [detection(1, DOG, OTHER, 0.9), detection(1, CAT, ONE, 0.8), detection(2, CAT, OTHER, 0.95)]
    objects = [(1, CAT, ONE), (2, DOG, ONE)]
    known = coco_ap(truth(images, objects), found)
    assert known.per_class == {"cat": pytest.approx(1.0), "dog": 0.0, "cow": None}
    # Where it is known that there is no cat, the second is a false one before the hit.
    negative = coco_ap(truth([lists(), lists(negative=(CAT,))], objects), found)
    assert negative.per_class["cat"] == pytest.approx(0.5)
    # As plain COCO both count.
    plain = coco_ap(truth([{}, {}], objects), found)
    assert plain.per_class["cat"] == pytest.approx(0.5)


def test_surplus_of_what_is_not_exhaustive_does_not_count_but_hits_do() -> None:
    found = [detection(1, CAT, OTHER, 0.9), detection(1, CAT, ONE, 0.8), detection(1, CAT, THIRD, 0.7)]
    objects = [(1, CAT, ONE), (1, CAT, THIRD)]
    plain = coco_ap(truth([lists()], objects), found)
    ignored = coco_ap(truth([lists(not_exhaustive=(CAT,))], objects), found)
    # Precision 1/2 at recall 1/2, then 2/3 at recall 1: the best at or beyond each is 2/3.
    assert plain.per_class["cat"] == pytest.approx(2 / 3)
    assert ignored.per_class["cat"] == pytest.approx(1.0)
    assert (plain.ar100, ignored.ar100) == (1.0, 1.0)
    # Of a half hit, IoU 0.6, that holds at the thresholds where it is none.
    shifted = [detection(1, CAT, [15, 10, 20, 20], 0.9), detection(1, CAT, THIRD, 0.7)]
    plain, ignored = (
        coco_ap(truth([each], objects), shifted) for each in (lists(), lists(not_exhaustive=(CAT,)))
    )
    # Found are both objects at 3 thresholds (0.5, 0.55, 0.6); at 7 one, after a false one or after none.
    half = 51 / 101
    assert plain.per_class["cat"] == pytest.approx((3 * 1 + 7 * half / 2) / 10)
    assert ignored.per_class["cat"] == pytest.approx((3 * 1 + 7 * half) / 10)
    # Another category of the same image is measured as ever.
    objects, found = (
        [*objects, (1, DOG, ONE)],
        [*found, detection(1, DOG, OTHER, 0.9), detection(1, DOG, ONE, 0.8)],
    )
    both = coco_ap(truth([lists(not_exhaustive=(CAT,))], objects), found)
    assert both.per_class == {"cat": pytest.approx(1.0), "dog": pytest.approx(0.5), "cow": None}


def test_numbers_by_size_follow_the_same_rules() -> None:
    small, large = [10, 10, 20, 20], [0, 0, 99, 99]
    found = [detection(1, CAT, large, 0.9), detection(1, CAT, small, 0.8)]
    ignored = coco_ap(truth([lists(not_exhaustive=(CAT,))], [(1, CAT, small)]), found)
    assert (ignored.ap_small, ignored.ap, ignored.ap_large) == (pytest.approx(1.0), pytest.approx(1.0), None)
    assert coco_ap(truth([lists()], [(1, CAT, small)]), found).ap == pytest.approx(0.5)


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)

    def box() -> list[int]:
        return [*rng.integers(0, 60, 2).tolist(), *rng.integers(8, 40, 2).tolist()]

    objects = [(int(rng.integers(1, 5)), int(rng.integers(1, 4)), box()) for _ in range(12)]
    found = [
        detection(image, category, [side + int(rng.integers(-3, 4)) for side in where], float(rng.random()))
        for image, category, where in objects
        if rng.random() < 0.8
    ]
    found += [
        detection(int(rng.integers(1, 5)), int(rng.integers(1, 4)), box(), float(rng.random()))
        for _ in range(9)
    ]
    return truth([{}] * 4, objects), found


@pytest.mark.parametrize("seed", range(5))
def test_complete_annotations_give_cocos_numbers(seed: int) -> None:
    plain, found = random_case(seed)
    complete = copy.deepcopy(plain)
    for image in complete["images"]:
        shown = {each["category_id"] for each in plain["annotations"] if each["image_id"] == image["id"]}
        image.update(lists(negative=tuple({CAT, DOG, COW} - shown)))
    assert is_federated(complete)
    assert not is_federated(plain)
    assert of_known_categories(complete, found) == found
    assert coco_ap(complete, found) == coco_ap(plain, found)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_ignored_could_as_well_not_have_been_found(seed: int) -> None:
    """But for the one detection an image that counts to AR1: COCO's limits do not ask what is ignored."""
    plain, found = random_case(seed)
    far = [detection(1, CAT, [96, 96, 3, 3], 0.99), detection(2, DOG, [96, 0, 3, 3], 0.01)]
    open_ended = copy.deepcopy(plain)
    for image in open_ended["images"]:
        image.update(lists(negative=(CAT, DOG, COW)))
    open_ended["images"][0]["not_exhaustive_category_ids"] = [CAT]
    open_ended["images"][1]["not_exhaustive_category_ids"] = [DOG]
    with_far, without = (replace(coco_ap(open_ended, each), ar1=None) for each in ([*found, *far], found))
    assert with_far == without
    assert coco_ap(plain, [*found, *far]).per_class["cat"] < coco_ap(plain, found).per_class["cat"]


def test_masks_follow_the_same_rules() -> None:
    def square(x: int, y: int) -> list[list[float]]:
        return [[x, y, x + 20, y, x + 20, y + 20, x, y + 20]]

    from pycocotools import mask as coco_mask

    objects = truth([lists(not_exhaustive=(CAT,))], [(1, CAT, ONE)])
    objects["annotations"][0]["segmentation"] = square(10, 10)
    found = [
        {**detection(1, CAT, ONE, score), "segmentation": coco_mask.frPyObjects(square(*corner), 100, 100)[0]}
        for corner, score in (((60, 60), 0.9), ((10, 10), 0.8))
    ]
    assert coco_ap(objects, found, "segm").ap == pytest.approx(1.0)
    objects["images"][0].update(lists())
    assert coco_ap(objects, found, "segm").ap == pytest.approx(0.5)
