"""The ONNX file against torch; one export serves all tests, since tracing takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from nasperc.assembly.detector import Searched, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.normalisation import get_normalisation
from nasperc.export.onnx import TOLERANCE, ExportedDetector, OnnxReport, check_onnx, export_onnx
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.ops.nms import batched_nms
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
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportedDetector, Path, OnnxReport]:
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
    normalisation = get_normalisation("caffe")
    path = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    report = export_onnx(detector, normalisation, path, with_nms=True, metadata={"classes": "a,b,c"})
    return ExportedDetector(detector, normalisation).eval(), path, report


def test_it_agrees_with_torch_on_three_sizes_it_was_not_traced_with(
    exported: tuple[ExportedDetector, Path, OnnxReport],
) -> None:
    module, path, report = exported
    assert report.agrees
    again = check_onnx(module, path, [(96, 64), (224, 320), (320, 480)])
    assert again.score_error <= TOLERANCE
    assert again.box_error <= TOLERANCE


def test_the_comparison_sees_another_network(exported: tuple[ExportedDetector, Path, OnnxReport]) -> None:
    module, path, _ = exported
    bias = module.detector.head.class_logits.bias
    with torch.no_grad():
        bias += 0.1
        assert not check_onnx(module, path, [(64, 64)]).agrees
        bias -= 0.1


def test_nms_is_onnx_own_and_selects_what_ours_keeps(
    exported: tuple[ExportedDetector, Path, OnnxReport],
) -> None:
    module, path, _ = exported
    assert [node.op_type for node in onnx.load(path).graph.node].count("NonMaxSuppression") == 1
    image = torch.rand(1, 3, 96, 96) * 255
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    boxes, scores, selected = session.run(["boxes", "nms_scores", "selected"], {"image": image.numpy()})
    preset = module.detector.preset
    classes, locations = np.nonzero(scores[0] > preset.score_threshold)
    assert len(classes) > 0
    kept = batched_nms(
        torch.from_numpy(boxes[0, locations]),
        torch.from_numpy(scores[0, classes, locations]),
        torch.from_numpy(classes),
        preset.nms_iou,
    )
    # Ours has no limit a class; ONNX's is the preset's detections an image.
    expected = {(int(classes[i]), int(locations[i])) for i in kept}
    found = {(int(label), int(location)) for _, label, location in selected}
    assert found <= expected
    counts = np.bincount([label for label, _ in expected], minlength=3)
    assert len(found) == np.minimum(counts, preset.detections).sum()


def test_classes_travel_with_the_file(exported: tuple[ExportedDetector, Path, OnnxReport]) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(exported[1]).metadata_props}
    assert properties["classes"] == "a,b,c"
