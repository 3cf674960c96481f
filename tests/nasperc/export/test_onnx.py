"""The ONNX file against torch; one export serves all tests, since tracing takes long."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from nasperc.data.batch import collate
from nasperc.data.image_rules import AS_STORED
from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import Meta, Sample
from nasperc.errors import InputError
from nasperc.export.onnx_file import OnnxFormat
from nasperc.models.fcos.model import FCOS
from nasperc.models.instances import Instances
from nasperc.tasks.caller import common_values
from nasperc.tasks.detection.final_agreement import TOLERANCE, FinalAgreement
from nasperc.tasks.detection.graphs import DetectorGraphs
from nasperc.tasks.raw_images import drawn_images

NAMES = ["cup, mug", "plate", 'of "Zoë"']


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, detector_of_every_layer: tuple[FCOS, Normalisation]
) -> tuple[DetectorGraphs, Path, FinalAgreement]:
    path = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    graphs = DetectorGraphs(*detector_of_every_layer, common_values(NAMES, AS_STORED))
    report = OnnxFormat().export(graphs, path)
    assert isinstance(report, FinalAgreement)
    return graphs, path, report


def check_onnx(exported: DetectorGraphs, path: Path, sizes: list[tuple[int, int]]) -> FinalAgreement:
    graphs = exported.graphs(OnnxFormat.smallest)
    return exported.compare(graphs, [OnnxFormat().open(graphs[0], path)], [path], sizes)


def test_it_agrees_with_torch_on_sizes_it_was_not_traced_with(
    exported: tuple[DetectorGraphs, Path, FinalAgreement],
) -> None:
    graphs, path, report = exported
    assert report.agrees
    assert report.compared.detections > 100
    again = check_onnx(graphs, path, [(20, 333), (224, 320)])
    assert again.agrees
    assert again.compared.detections > 50
    assert again.compared.score_error <= TOLERANCE
    assert again.compared.box_error <= TOLERANCE


def test_the_comparison_sees_another_network(exported: tuple[DetectorGraphs, Path, FinalAgreement]) -> None:
    graphs, path, _ = exported
    bias: torch.Tensor = graphs.module.detector.head.class_logits.bias  # type: ignore[union-attr, assignment]
    with torch.no_grad():
        bias += 0.1
        wrong = check_onnx(graphs, path, [(64, 64)])
        bias -= 0.1
    assert not wrong.agrees
    with pytest.raises(InputError, match="must agree with torch"):
        wrong.check()


@pytest.mark.parametrize(("size", "batch"), [((80, 100), 2), ((61, 147), 1)])
def test_raw_images_give_what_the_platform_finds(
    exported: tuple[DetectorGraphs, Path, FinalAgreement], size: tuple[int, int], batch: int
) -> None:
    """Whoever gives the pixels and does nothing else has the detections of ``nasperc predict``."""
    graphs, path, _ = exported
    detector, normalisation = graphs.module.detector, graphs.module.raw.normalisation
    images = drawn_images(batch, size, 5).to(torch.uint8)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    boxes, scores, classes = session.run(None, {"image": images.numpy().astype("float32")})
    assert boxes.shape == (batch, detector.preset.detections, 4)
    samples = [Sample(image, Meta(1, path, size)) for image in images]
    padded = collate(samples, normalisation, detector.divisor)
    with torch.no_grad():
        found: list[Instances] = detector.detect(detector(padded.images), padded.sizes)
    for image, each in enumerate(found):
        wanted = each.rescale(size, size)
        count = min(len(wanted), detector.preset.detections)
        assert count > 3
        used = torch.from_numpy(scores[image]) > 0
        assert int(used.sum()) == count
        assert wanted.scores is not None
        assert wanted.labels is not None
        torch.testing.assert_close(
            torch.from_numpy(scores[image])[used], wanted.scores[:count], atol=1e-4, rtol=0
        )
        torch.testing.assert_close(
            torch.from_numpy(boxes[image])[used], wanted.boxes[:count], atol=1e-2, rtol=0
        )
        assert torch.equal(torch.from_numpy(classes[image])[used], wanted.labels[:count])
        assert (boxes[image][~used.numpy()] == 0).all()


def test_the_file_tells_a_stranger_everything(exported: tuple[DetectorGraphs, Path, FinalAgreement]) -> None:
    model = onnx.load(exported[1])
    said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert said["classes"] == NAMES
    assert said["reading"] == {"range": None, "exif": "ignore"}
    assert said["nasperc"].count(".") == 2
    image = said["input"]["image"]
    assert (image["layout"], image["colours"], image["dtype"], image["range"]) == (
        "NCHW",
        "RGB",
        "float32",
        [0, 255],
    )
    assert (image["normalise"], image["pad"]) == (False, False)
    assert image["sides"] == {"smallest": 1, "largest": 4096}
    preset = exported[0].module.detector.preset
    assert said["suppression"]["iou"] == preset.nms_iou
    assert said["suppression"]["above"] == preset.score_threshold
    assert said["score"] == "sqrt(class score * centerness)"
    for side, tensors in (("input", model.graph.input), ("outputs", model.graph.output)):
        assert list(said[side]) == [tensor.name for tensor in tensors]
        for tensor in tensors:
            shape = [size.dim_param or size.dim_value for size in tensor.type.tensor_type.shape.dim]
            assert said[side][tensor.name]["shape"] == shape
