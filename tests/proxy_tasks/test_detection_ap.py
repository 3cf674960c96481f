"""AP on meta-val: perfect output scores 1, an object that no location can find is missed, batches do not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from controllers.base import Candidate
from nasperc.errors import InputError
from nasperc.models.features import HeadOutput
from nasperc.ops.boxes import distances_to_boxes, locations
from proxy_tasks.base import TaskContext
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_ap import GROUND_TRUTH, ValidationAP
from proxy_tasks.detection_cache import STRIDES, level_sizes
from proxy_tasks.detection_recipe import DetectionProxyRecipe

MakeCandidate = Callable[..., Candidate]
MakeRecipe = Callable[..., DetectionProxyRecipe]
SIZES = level_sizes(64)


def perfect_output(task: DetectionProxy, records: torch.Tensor) -> HeadOutput:
    """What a head would put out that had learnt the cached targets by heart."""
    targets = task.cache.load(records).targets
    classes = len(task.setup.dataset.classes)
    logits = torch.full((*targets.labels.shape, classes), -20.0)
    image, location = (targets.labels >= 0).nonzero(as_tuple=True)
    logits[image, location, targets.labels[image, location]] = 20.0

    def by_level(values: torch.Tensor) -> list[torch.Tensor]:
        parts = values.split([height * width for height, width in SIZES], dim=1)
        return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, SIZES, strict=True)]

    centerness = targets.centerness.clamp(1e-6, 1 - 1e-6).logit()[..., None]
    return HeadOutput([], [], by_level(logits), by_level(targets.distances), by_level(centerness))


def validation_ap(task: DetectionProxy) -> ValidationAP:
    return ValidationAP(task.cache, task.setup.dataset.classes, task.preset, task.recipe.crop)


def expected_ap(task: DetectionProxy, records: torch.Tensor) -> float:
    """By hand: of a class's objects those are found that are the target of a location, and nothing else is.

    Precision is 1 up to the recall that is reached; AP is its mean over the recalls 0, 0.01 .. 1.
    """
    found: Counter[int] = Counter()
    objects: Counter[int] = Counter()
    points = torch.cat([locations(size, stride) for size, stride in zip(SIZES, STRIDES, strict=True)])
    for record in records:
        rows = task.cache.reader.batch(GROUND_TRUTH, record[None])
        targets = task.cache.load(record[None]).targets
        positive = targets.labels[0] >= 0
        reached = distances_to_boxes(points[positive], targets.distances[0][positive])
        for box, label in zip(
            rows["boxes"][0][: rows["box_count"]], rows["box_labels"][0].tolist(), strict=False
        ):
            objects[label] += 1
            found[label] += bool(torch.isclose(reached, box, atol=1e-3).all(dim=1).any())
    by_class = [(100 * found[k] // objects[k] + 1) / 101 if found[k] else 0.0 for k in objects]
    return sum(by_class) / len(by_class)


def test_output_equal_to_the_targets_finds_every_object_that_is_a_target(task: DetectionProxy) -> None:
    measure = validation_ap(task)
    records = torch.arange(task.cache.train, len(task.cache.reader))
    perfect = measure.measure(measure.detections(perfect_output(task, records), first=0))
    assert perfect == pytest.approx(expected_ap(task, records))
    # Boxes of the wrong views find (nearly) nothing.
    shuffled = perfect_output(task, records.roll(1))
    assert measure.measure(measure.detections(shuffled, first=0)) < perfect / 2
    assert measure.measure([]) == 0.0


def test_batches_do_not_matter(task: DetectionProxy) -> None:
    measure = validation_ap(task)
    records = torch.arange(task.cache.train, len(task.cache.reader))
    together = measure.detections(perfect_output(task, records), first=0)
    one_by_one = [
        result
        for view, record in enumerate(records)
        for result in measure.detections(perfect_output(task, record[None]), first=view)
    ]
    assert together == one_by_one


@pytest.mark.parametrize("how", ["reward", "metric"])
def test_ap_is_the_reward_or_a_metric_beside_the_loss(
    task: DetectionProxy,
    prepared_folder: Path,
    make_candidate: MakeCandidate,
    make_recipe: MakeRecipe,
    make_context: Callable[..., TaskContext],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    keys = {"reward": "ap"} if how == "reward" else {"measure_ap": True}
    other = DetectionProxy(make_recipe(iterations=20, **keys), make_context(prepared_folder))
    other.prepare()
    plain = task.evaluate(make_candidate(task, overrides={"iterations": 20}))
    # So short a training has an AP of 0: what it finds at all stands for it.
    monkeypatch.setattr(
        ValidationAP, "measure", lambda self, found: len({d["image_id"] for d in found}) / 100
    )
    result = other.evaluate(make_candidate(other))
    assert "ap" not in plain.metrics
    assert result.metrics["ap"] == task.cache.val / 100
    assert result.reward == (result.metrics["ap"] if how == "reward" else plain.reward)
    assert result.metrics["loss_box"] == plain.metrics["loss_box"]
    assert other.fingerprint() != task.fingerprint()


def test_a_meta_val_without_an_object_that_counts_is_refused(
    task: DetectionProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = task.cache.reader.batch

    def all_crowd(*arguments: object) -> dict[str, torch.Tensor]:
        rows = read(*arguments)  # type: ignore[arg-type]
        return rows | {"box_crowd": torch.ones_like(rows["box_crowd"])}

    monkeypatch.setattr(task.cache.reader, "batch", all_crowd)
    with pytest.raises(InputError, match="AP needs an object"):
        validation_ap(task)
