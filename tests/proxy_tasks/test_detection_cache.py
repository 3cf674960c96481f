"""What is in the cache, against the obvious computation of each record."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from feature_cache.reader import CacheReader
from nasperc.data.batch import collate
from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.sample import Meta, Sample
from nasperc.errors import InputError
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.targets import fcos_targets
from nasperc.models.features import FeatureSpec
from nasperc.models.targets import IGNORE
from proxy_tasks.base import TaskContext, no_progress
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_cache import STRIDES, level_sizes, write_cache
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_views import ImageSplit, views


def test_a_record_is_what_backbone_and_targets_give_for_its_view(task: DetectionProxy) -> None:
    setup, cache = task.setup, task.cache
    backbone, _ = setup.backbone(torch.device("cpu"), no_progress)
    record = 3
    sample = next(islice(views(setup.dataset, setup.split, setup.recipe), record, None))
    batch = cache.load(torch.tensor([record]))
    with torch.no_grad():
        features = backbone(collate([sample], setup.normalisation).images)
    for cached, computed in zip(batch.features, features, strict=True):
        torch.testing.assert_close(cached, computed, rtol=2e-3, atol=2e-3)
    sizes = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    assert level_sizes(64) == sizes
    assert sample.boxes is not None
    assert sample.labels is not None
    assert sample.crowd is not None
    interest = task.preset.sizes_of_interest
    scaled = tuple((low * 80 / 800, high * 80 / 800) for low, high in interest)
    targets = fcos_targets(sample.boxes, sample.labels, sample.crowd, sizes, STRIDES, scaled)
    assert torch.equal(batch.targets.labels[0], targets.labels)
    torch.testing.assert_close(batch.targets.distances[0], targets.distances)
    torch.testing.assert_close(batch.targets.centerness[0], targets.centerness)
    rows = cache.reader.batch(["boxes", "box_labels", "box_count", "image_id"], torch.tensor([record]))
    count = int(rows["box_count"])
    assert torch.equal(rows["boxes"][0, :count], sample.boxes)
    assert torch.equal(rows["box_labels"][0, :count].long(), sample.labels)
    assert rows["image_id"].item() == sample.meta.image_id


@pytest.mark.parametrize(
    ("preset", "difficult", "ignored"),
    [("nas_fcos", False, True), ("adelaidet", False, False), ("adelaidet", True, True)],
)
def test_what_lies_in_crowd(
    tmp_path: Path, task: DetectionProxy, preset: str, difficult: bool, ignored: bool
) -> None:
    """COCO's crowd regions are background in AdelaiDet; VOC's difficult objects are ignored by both presets."""
    whole = Sample(
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        Meta(1, Path("x"), (64, 64)),
        torch.tensor([[0.0, 0.0, 64.0, 64.0], [4.0, 4.0, 20.0, 20.0]]),
        torch.tensor([0, 1]),
        torch.tensor([True, False]),
    )

    class OneImage(DetectionDataset):
        def __getitem__(self, index: int) -> Sample:
            return whole

    record = Record(1, Path("x"), (64, 64), *(np.zeros((2, 4)),) * 4)
    dataset = OneImage("toy", "train", ("a", "b"), [record, record], difficult=difficult)
    backbone = SmallBackbone()
    path = tmp_path / "crowd.h5"
    recipe = task.recipe.model_copy(update={"short_side": 64, "views": 1, "flip": 0.0})
    write_cache(
        path,
        dataset,
        ImageSplit((0,), (1,)),
        backbone,
        task.setup.normalisation,
        PRESETS[preset],
        recipe,
        {"preset": preset},
        {},
        no_progress,
    )
    rows = CacheReader(path).batch(["labels", "box_crowd"], torch.arange(2))
    for labels in rows["labels"]:
        assert (IGNORE in labels) is ignored
    # AP ignores crowd whatever the training does.
    assert rows["box_crowd"].tolist() == [[1, 0]] * 2


def test_objects_too_small_for_any_location_are_nothing_to_learn(
    tmp_path: Path, task: DetectionProxy
) -> None:
    """Annotated, but of less than a pixel at the proxy's size."""
    tiny = Sample(
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        Meta(1, Path("x"), (64, 64)),
        torch.tensor([[9.0, 9.0, 10.0, 10.0]]),
        torch.tensor([0]),
        torch.tensor([False]),
    )

    class OneImage(DetectionDataset):
        def __getitem__(self, index: int) -> Sample:
            return tiny

    record = Record(1, Path("x"), (64, 64), *(np.zeros((1, 4)),) * 4)
    recipe = task.recipe.model_copy(update={"short_side": 64, "views": 1, "flip": 0.0})
    with pytest.raises(
        InputError, match=r"meta-train must have a location.*proxy\.short_side and proxy\.crop"
    ):
        write_cache(
            tmp_path / "tiny.h5",
            OneImage("toy", "train", ("a", "b"), [record, record]),
            ImageSplit((0,), (1,)),
            SmallBackbone(),
            task.setup.normalisation,
            PRESETS["nas_fcos"],
            recipe,
            {},
            {},
            no_progress,
        )
    assert not list(tmp_path.glob("*.h5"))


class SmallBackbone(torch.nn.Module):
    """Features that do not matter."""

    out = (FeatureSpec("c2", 1, 4),)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images[:, :1, ::4, ::4]]


def test_features_are_alive_in_every_level(task: DetectionProxy) -> None:
    batch = task.cache.load(torch.arange(4))
    assert [feature.shape[-1] for feature in batch.features] == [16, 8, 4, 2]
    for feature in batch.features:
        assert feature.std(dim=0).mean() > 0.05


def test_batches_are_channels_last_as_they_are_read(task: DetectionProxy) -> None:
    for feature in task.cache.load(torch.arange(3)).features:
        assert feature.dtype == torch.float32
        assert feature.is_contiguous(memory_format=torch.channels_last)


def test_features_are_rounded_once_to_the_type_asked_for(task: DetectionProxy) -> None:
    index = torch.arange(3)
    exact, rounded = task.cache.load(index), task.cache.load(index, torch.bfloat16)
    for one, other in zip(exact.features, rounded.features, strict=True):
        assert other.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(one.bfloat16(), other)
    first = next(task.cache.val_batches(2, torch.bfloat16))
    assert {feature.dtype for feature in first.features} == {torch.bfloat16}


def test_training_order_goes_through_all_records_before_it_repeats(task: DetectionProxy) -> None:
    count = task.cache.train
    assert count == 16
    drawn = torch.cat(list(islice(task.cache.training_order(6, seed=1), 8)))
    assert sorted(drawn.bincount(minlength=count).tolist()) == [3] * count
    again = torch.cat(list(islice(task.cache.training_order(6, seed=1), 8)))
    other = torch.cat(list(islice(task.cache.training_order(6, seed=2), 8)))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_val_batches_are_all_meta_val_records(task: DetectionProxy, batch_size: int) -> None:
    whole = task.cache.load(torch.arange(task.cache.train, len(task.cache.reader)))
    batches = list(task.cache.val_batches(batch_size))
    assert max(len(batch.targets.labels) for batch in batches) <= batch_size
    assert torch.equal(torch.cat([batch.features[1] for batch in batches]), whole.features[1])
    assert torch.equal(torch.cat([batch.targets.labels for batch in batches]), whole.targets.labels)


def test_8_bit_features_are_close_to_half_precision(
    tmp_path: Path,
    task: DetectionProxy,
    make_recipe: Callable[..., DetectionProxyRecipe],
    make_context: Callable[..., TaskContext],
) -> None:
    small = DetectionProxy(make_recipe(dtype="uint8"), make_context(tmp_path))
    small.prepare()
    records = torch.arange(5)
    for exact, coarse in zip(
        task.cache.load(records).features, small.cache.load(records).features, strict=True
    ):
        step = (exact.amax(dim=(2, 3), keepdim=True) - exact.amin(dim=(2, 3), keepdim=True)) / 255
        # Half a step, and what half precision itself loses.
        assert ((exact - coarse).abs() <= 0.5 * step + 2e-3 * exact.abs() + 1e-3).all()
    assert small.cache.reader.nbytes < task.cache.reader.nbytes
