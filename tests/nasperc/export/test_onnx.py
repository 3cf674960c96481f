"""The ONNX file against torch; one export serves all tests, since tracing takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from nasperc.data.batch import collate
from nasperc.data.image_rules import AS_STORED
from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import Meta, Sample
from nasperc.export.caller import common_values
from nasperc.export.exported_detector import TOLERANCE, Agreement, ExportedDetector
from nasperc.export.onnx import check_onnx, export_onnx
from nasperc.models.fcos.decode import decode
from nasperc.models.fcos.model import FCOS
from nasperc.ops.nms import batched_nms

NAMES = ["cup, mug", "plate", 'of "Zoë"']


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, detector_of_every_layer: tuple[FCOS, Normalisation]
) -> tuple[ExportedDetector, Path, Agreement]:
    detector, normalisation = detector_of_every_layer
    path = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    report = export_onnx(detector, normalisation, path, with_nms=True, about=common_values(NAMES, AS_STORED))
    return ExportedDetector(detector, normalisation).eval(), path, report


def test_it_agrees_with_torch_on_three_sizes_it_was_not_traced_with(
    exported: tuple[ExportedDetector, Path, Agreement],
) -> None:
    module, path, report = exported
    assert report.agrees
    again = check_onnx(module, path, [(96, 64), (224, 320), (320, 480)])
    assert again.score_error <= TOLERANCE
    assert again.box_error <= TOLERANCE


def test_the_comparison_sees_another_network(exported: tuple[ExportedDetector, Path, Agreement]) -> None:
    module, path, _ = exported
    bias = module.detector.head.class_logits.bias
    with torch.no_grad():
        bias += 0.1
        assert not check_onnx(module, path, [(64, 64)]).agrees
        bias -= 0.1


def test_nms_is_onnx_own_and_selects_what_ours_keeps(
    exported: tuple[ExportedDetector, Path, Agreement],
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


def test_classes_travel_with_the_file(exported: tuple[ExportedDetector, Path, Agreement]) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(exported[1]).metadata_props}
    assert json.loads(properties["classes"]) == NAMES
    assert json.loads(properties["reading"]) == {"range": None, "exif": "ignore"}


def test_who_follows_the_metadata_gets_the_boxes_of_torch(
    exported: tuple[ExportedDetector, Path, Agreement],
) -> None:
    """The graph normalises: a caller who did it too would get other boxes."""
    module, path, _ = exported
    said = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    image, outputs = said["input"]["image"], said["outputs"]
    assert "normalisation" not in said
    assert image["normalise"] is False
    assert (image["layout"], image["colours"], image["dtype"]) == ("NCHW", "RGB", "float32")
    assert image["sides"] == {"multiple_of": 32, "smallest": 64, "largest": 4096}
    pixels = torch.randint(0, 256, (3, 80, 100), dtype=torch.uint8)
    height, width = (-(-side // 32) * 32 for side in (80, 100))
    given = torch.tensor(image["padding"]["colour"], dtype=torch.float32)[:, None, None].repeat(
        1, height, width
    )
    given[:, :80, :100] = pixels
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(list(outputs), {"image": given[None].numpy()})
    padded = collate([Sample(pixels, Meta(1, path, (80, 100)))], module.normalisation).images
    with torch.no_grad():
        expected = decode(module.detector(padded).head, module.detector.strides)
    # The padding's colour is rounded to whole numbers.
    torch.testing.assert_close(torch.from_numpy(found[0]), expected[0], rtol=0, atol=0.5)
    torch.testing.assert_close(torch.from_numpy(found[1]), expected[1], rtol=0, atol=0.01)
    scores = np.sqrt(found[1] * found[2][..., None])
    np.testing.assert_allclose(found[3], scores.transpose(0, 2, 1), atol=1e-5)
