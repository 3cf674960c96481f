"""Instance segmenters as files, one of each model; the graph of a detector has tests of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from nasperc.assembly.detector import Baseline
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.batch import collate
from nasperc.data.normalisation import get_normalisation
from nasperc.data.sample import Meta, Sample
from nasperc.export.onnx_file import OnnxFormat
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.models.instance_segmenter import InstanceSegmenter, PasteInto
from nasperc.ops.paste_masks import paste
from nasperc.tasks.detection.final_agreement import FinalAgreement
from nasperc.tasks.instances.graphs import FinalSegmenter, SegmenterGraphs
from nasperc.tasks.instances.models import InstancesRecipe, build_segmenter
from nasperc.tasks.raw_images import drawn_images

TF = get_normalisation("tf")
# Few channels, and few detections: what is exported is the model's wiring.
SMALL = {
    "blendmask": {
        "region": 8,
        "attention": 4,
        "bottom": {"name": "protonet", "width": 8, "convolutions": 2},
        "semantic": {"width": 8},
    },
    "dr1mask": {"region": 8, "attention": 4, "width": 8, "semantic": {"width": 8}},
}


def segmenter(name: str) -> InstanceSegmenter:
    torch.manual_seed(0)
    options = InstancesRecipe.model_validate(
        {"model": name, name: SMALL[name], "preset_overrides": {"detections": 20}}
    )
    recipe = ModelRecipe(backbone=BackboneRecipe(name="resnet18"))
    model = build_segmenter(recipe, options, Baseline(32, 32, 1), 3, load_weights=False).eval()
    # A fresh network finds nothing, and its boxes are all alike.
    nn.init.normal_(model.head.class_logits.weight, std=0.5)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(model.head.class_logits.bias, -1.0)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(model.head.box.bias, 2.0)  # type: ignore[union-attr, arg-type]
    return model


@pytest.mark.parametrize(("name", "pasted"), [("blendmask", True), *((name, False) for name in SMALL)])
def test_the_file_gives_the_masks_of_the_platform(name: str, pasted: bool, tmp_path: Path) -> None:
    model, path = segmenter(name), tmp_path / "segmenter.onnx"
    agreement = OnnxFormat().export(SegmenterGraphs(model, TF, pasted=pasted), path)
    assert isinstance(agreement, FinalAgreement)
    assert agreement.compared.detections > 100
    assert agreement.compared.of_pixels > 0
    assert "masks" in str(agreement)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    size = (90, 131)
    images = drawn_images(2, size, 3).to(torch.uint8)
    _, scores, _, masks = session.run(None, {"image": images.numpy().astype("float32")})
    assert masks.shape == ((2, 20, *size) if pasted else (2, 20, model.region, model.region))
    samples = [Sample(image, Meta(1, path, size)) for image in images]
    batch = collate(samples, TF, model.divisor)
    with torch.no_grad():
        found = model.detect(model(batch.images), batch.sizes)
    for image, each in enumerate(found):
        wanted = each.rescale(size, size)
        used = int((scores[image] > 0).sum())
        assert used > 5
        assert isinstance(wanted.masks, torch.Tensor)
        if pasted:
            expected = paste(wanted.masks, wanted.boxes, size)[:used].numpy()
            assert np.mean(masks[image, scores[image] > 0] != expected) <= 1e-4
        else:
            np.testing.assert_allclose(masks[image, scores[image] > 0], wanted.masks[:used], atol=1e-4)
        assert not masks[image, scores[image] == 0].any()


@pytest.mark.parametrize("paste_into", ["clipped_box", "pooled_box"])
def test_what_is_exported_pastes_as_the_platform_does(paste_into: PasteInto) -> None:
    model, size = segmenter("blendmask"), (90, 131)
    model.paste_into = paste_into
    images = drawn_images(2, size, 3)
    with torch.no_grad():
        boxes, scores, _, pasted = FinalSegmenter(model, TF, pasted=True)(images)
        plain = FinalSegmenter(model, TF, pasted=False)(images)
        batch = collate(
            [Sample(each.to(torch.uint8), Meta(1, Path(), size)) for each in images], TF, model.divisor
        )
        found = model.detect(model(batch.images), batch.sizes)
    # Its own masks lie in the boxes that come with them, which reach out of the image.
    assert len(plain) == (5 if paste_into == "pooled_box" else 4)
    if paste_into == "pooled_box":
        assert (plain[4] < 0).any()
        assert (boxes >= 0).all()
    for image, each in enumerate(found):
        wanted, used = each.rescale(size, size), scores[image] > 0
        assert isinstance(wanted.masks, torch.Tensor)
        into = wanted.pooled if wanted.pooled is not None else wanted.boxes
        expected = paste(wanted.masks, into, size)[: int(used.sum())]
        assert (pasted[image, used] != expected).float().mean() <= 1e-4
