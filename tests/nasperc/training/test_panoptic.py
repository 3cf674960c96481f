"""Panoptic networks on images and data sets: losses of a batch, segmentations in the pixels of the originals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nasperc.assembly.detector import Baseline, build_decoder
from nasperc.data.batch import collate
from nasperc.data.normalisation import get_normalisation
from nasperc.data.panoptic import PanopticDataset
from nasperc.data.panoptic_formats import open_panoptic
from nasperc.data.synthetic_panoptic import write_synthetic_panoptic
from nasperc.data.transforms import Compose, HorizontalFlip, MultiScaleResize, RandomCrop
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.blendmask.preset import blendmask_preset
from nasperc.models.blendmask.protonet import ProtoNetRecipe
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.fcos.preset import get_preset
from nasperc.models.panoptic.blendmask import BlendMaskPanoptic
from nasperc.models.panoptic.merge import MergeRecipe
from nasperc.models.panoptic.segmentation import SEMANTIC_IGNORE, PanopticSegmentation
from nasperc.models.panoptic.semantic_branch import SemanticBranchRecipe
from nasperc.training.detection import detection_losses
from nasperc.training.panoptic import panoptic_losses, segment, segment_dataset

TF = get_normalisation("tf")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PanopticDataset:
    folder = tmp_path_factory.mktemp("panoptic") / "data"
    return open_panoptic(write_synthetic_panoptic(folder, images={"train": 4}, size=(64, 80)), "train")


@pytest.fixture
def model(dataset: PanopticDataset) -> BlendMaskPanoptic:
    torch.manual_seed(0)
    backbone = MobileNetV2(width_mult=0.1, frozen_bn=True)
    preset = blendmask_preset(get_preset("adelaidet"))
    parts = build_decoder(Baseline(64, 64, 1), backbone.out, len(dataset.classes), preset)
    recipe = BlendMaskRecipe(bottom=ProtoNetRecipe(width=8), attention=4, region=28)
    branch, merge = SemanticBranchRecipe(width=32), MergeRecipe(stuff_area=0)
    stuff = len(dataset.panoptic.stuff)
    return BlendMaskPanoptic(backbone, parts["neck"], parts["head"], recipe, branch, merge, stuff)


def test_losses_are_those_of_instances_and_of_pixels(
    model: BlendMaskPanoptic, dataset: PanopticDataset
) -> None:
    transform = Compose(MultiScaleResize((48, 64), 100), HorizontalFlip(), RandomCrop((64, 64)))
    samples = [transform(dataset[k], np.random.default_rng(k)) for k in range(2)]
    batch = collate(samples, TF)
    losses = panoptic_losses(model.eval(), batch)
    assert list(losses) == ["classification", "box", "centerness", "mask", "semantic", "stuff"]
    for name, loss in detection_losses(model, batch).items():
        torch.testing.assert_close(losses[name], loss)
    # Of pixels that are not annotated nothing is learnt.
    void = [each.with_fields(semantic=torch.full_like(each.semantic, SEMANTIC_IGNORE)) for each in samples]
    assert panoptic_losses(model, collate(void, TF))["stuff"] == 0
    with pytest.raises(ValueError, match="no semantic map"):
        panoptic_losses(model, collate([each.with_fields(semantic=None) for each in samples], TF))


def test_a_segmentation_has_the_size_of_the_original(
    model: BlendMaskPanoptic, dataset: PanopticDataset
) -> None:
    samples = [dataset[k] for k in range(2)]
    found = segment(model.eval(), samples, TF, 96, 200)
    assert [each.map.shape for each in found] == [(64, 80)] * 2
    # As if each had been alone: their sizes are the same, so nothing is padded.
    alone = segment(model, samples[1:], TF, 96, 200)[0]
    assert (alone.map == found[1].map).float().mean() > 0.99
    # With annotations or without.
    bare = [
        each.with_fields(boxes=None, labels=None, crowd=None, masks=None, semantic=None) for each in samples
    ]
    assert torch.equal(segment(model, bare, TF, 96, 200)[0].map, found[0].map)


class Knowing(BlendMaskPanoptic):
    """Says what is annotated, of image after image."""

    def know(self, dataset: PanopticDataset) -> None:
        self.truths = iter([dataset.truth(k, dataset[k]) for k in range(len(dataset))])

    def segment(self, *arguments: object, **keys: object) -> list[PanopticSegmentation]:
        return [next(self.truths)]


def test_the_truth_has_a_quality_of_one(model: BlendMaskPanoptic, dataset: PanopticDataset) -> None:
    model.__class__ = Knowing
    assert isinstance(model, Knowing)
    model.know(dataset)
    seen: list[int] = []
    done: list[int] = []
    evaluation = segment_dataset(
        model.train(), dataset, TF, 64, 100, on_found=lambda k, found: seen.append(k), on_image=done.append
    )
    metrics = evaluation.metrics(dataset.panoptic.names)
    assert (metrics.pq, metrics.pq_things, metrics.pq_stuff) == (1, 1, 1)
    assert set(metrics.per_class.values()) == {1.0}
    assert (seen, done) == ([0, 1, 2, 3], [1, 2, 3, 4])
    assert not model.training


def test_an_untrained_network_is_measured(model: BlendMaskPanoptic, dataset: PanopticDataset) -> None:
    metrics = segment_dataset(model, dataset, TF, 64, 100).metrics()
    assert metrics.pq is not None
    assert 0 <= metrics.pq < 0.5


def test_a_folder_without_annotations_is_run_too(
    model: BlendMaskPanoptic, dataset: PanopticDataset, tmp_path: Path
) -> None:
    bare = dataset.records[0]
    file = tmp_path / "info.json"
    image = {"id": 1, "height": 64, "width": 80, "file_name": bare.file.name}
    file.write_text(json.dumps({"images": [image], "categories": []}))
    folder = bare.file.parents[1]
    listed = open_panoptic(folder, "train", annotations=file)
    assert segment_dataset(model, listed, TF, 64, 100).metrics().pq is None
