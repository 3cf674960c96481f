from __future__ import annotations

import pytest
import torch

from nasperc.assembly.detector import Baseline, Searched, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.normalisation import Normalisation, get_normalisation
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.models.fcos.model import FCOS
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

# Every kind of layer once: separable, dilated, deformable and skip; sum and concat; separate and shared layers.
FPN = (
    3,
    2,
    0,
    1,
    0,
    4,
    1,
    3,
    4,
    1,
    5,
    0,
    2,
    3,
    0,
    3,
    3,
    3,
    3,
    0,
    6,
    7,
    3,
    3,
    1,
    2,
    1,
    3,
    3,
    0,
    1,
    1,
    3,
    3,
    0,
)
HEAD = (5, 0, 2, 4, 4, 4, 1)


@pytest.fixture(scope="module")
def plain_detector() -> tuple[FCOS, Normalisation]:
    """A detector of few layers, which is traced sooner, and its normalisation."""
    torch.manual_seed(0)
    model = ModelRecipe(backbone=BackboneRecipe(name="resnet18"), preset="adelaidet")
    detector = build_detector(model, Baseline(32, 32, 1), 3).eval()
    assert isinstance(detector, FCOS)
    return detector, get_normalisation("caffe")


@pytest.fixture(scope="module")
def detector_of_every_layer() -> tuple[FCOS, Normalisation]:
    """A small detector with every kind of layer, in evaluation mode, and its normalisation."""
    torch.manual_seed(0)
    space = FcosDecoder(FcosDecoderRecipe())
    architecture = space.architecture({"fpn": FPN, "head": HEAD})
    model = ModelRecipe(backbone=BackboneRecipe(width_mult=0.25))
    detector = build_detector(model, Searched(space, architecture, {"fpn": 32, "head": 64}), 3).eval()
    # A fresh network has offsets and scores that are all alike: numbers that tell nothing.
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if "offset_mask" in name or "class_logits" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return detector, get_normalisation("caffe")
