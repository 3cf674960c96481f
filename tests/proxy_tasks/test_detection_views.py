"""Meta-train, meta-val, and the views of each image."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nasperc.assembly.datasets import synthetic_folder
from nasperc.errors import InputError
from proxy_tasks.base import TaskContext
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_views import split_images, views


def test_every_image_is_in_one_part_and_the_seed_decides_which() -> None:
    recipe = DetectionProxyRecipe()
    split = split_images(5715, recipe)
    assert (len(split.train), len(split.val)) == (4000, 1715)
    assert sorted(split.train + split.val) == list(range(5715))
    assert split_images(5715, recipe) == split
    assert split_images(5715, DetectionProxyRecipe(seed=1)) != split


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_neither_part_is_ever_empty(share: float) -> None:
    split = split_images(2, DetectionProxyRecipe(meta_train=share))
    assert len(split.train) == len(split.val) == 1


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(InputError, match="at least two images"):
        split_images(1, DetectionProxyRecipe())


@pytest.mark.parametrize("part", ["meta-train", "meta-val"])
def test_a_part_without_an_object_is_refused_before_anything_is_trained(
    tmp_path: Path,
    make_recipe: Callable[..., DetectionProxyRecipe],
    make_context: Callable[..., TaskContext],
    part: str,
) -> None:
    context, recipe = make_context(tmp_path), make_recipe(finetune=True)
    folder = synthetic_folder(context.data, tmp_path)
    split = split_images(12, recipe)
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    empty = {1 + image for image in (split.train if part == "meta-train" else split.val)}
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["image_id"] in empty)
    file.write_text(json.dumps(content))
    phases: list[str] = []
    task = DetectionProxy(
        recipe, replace(context, data=context.data.model_copy(update={"path": folder, "format": "coco"}))
    )
    with pytest.raises(InputError, match=f"{part} must show at least one object"):
        task.prepare(lambda phase, fraction: phases.append(phase))
    assert phases == []


def test_views_are_crops_with_boxes_inside_and_the_same_each_time(task: DetectionProxy) -> None:
    dataset, split = task.setup.dataset, task.setup.split
    first, second = (list(views(dataset, split, task.recipe)) for _ in range(2))
    assert len(first) == len(split.train) * 2 + len(split.val)
    for one, other in zip(first, second, strict=True):
        assert one.image.shape == (3, 64, 64)
        assert torch.equal(one.image, other.image)
        assert one.boxes is not None
        assert len(one.boxes) > 0
        assert one.boxes.min() >= 0
        assert one.boxes.max() <= 64
    # Two views of one image are two crops.
    assert not torch.equal(first[0].image, first[1].image)


def test_only_meta_train_is_mirrored(
    task: DetectionProxy, make_recipe: Callable[..., DetectionProxyRecipe]
) -> None:
    dataset, split = task.setup.dataset, task.setup.split
    never, always = (list(views(dataset, split, make_recipe(flip=p))) for p in (0.0, 1.0))
    border = len(split.train) * 2
    for plain, mirrored in zip(never[:border], always[:border], strict=True):
        assert torch.equal(plain.image.flip(-1), mirrored.image)
    for plain, same in zip(never[border:], always[border:], strict=True):
        assert torch.equal(plain.image, same.image)
