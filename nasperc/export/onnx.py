"""A trained detector as ONNX: image in, decoded boxes, class scores and centerness out; checked against torch."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.models.fcos import FCOS
from nasperc.models.fcos_postprocess import decode

# The first with DeformConv.
OPSET = 19
# Large enough that no level has a side of 1, which the tracer would take for a constant.
EXAMPLE_SIZE = (256, 384)
OUTPUTS = ("boxes", "class_scores", "centerness")
# Sizes at which the file is compared with torch right after it was written, (H, W).
CHECK_SIZES = ((64, 96), (128, 128), (160, 96))
# Scores: absolute. Boxes: relative to the longer side of the image.
TOLERANCE = 1e-4


class ExportedDetector(nn.Module):
    """What the ONNX graph computes.

    ``forward(image)``: ``image`` ``(1, 3, H, W)`` float32 RGB in 0..255, H and W multiples of 32 ->
    ``boxes`` ``(1, P, 4)`` as (x1, y1, x2, y2) in pixels, ``class_scores`` ``(1, P, K)`` and ``centerness``
    ``(1, P)`` in 0..1. The final score of the field is sqrt(class score * centerness).
    """

    def __init__(self, detector: FCOS, normalisation: Normalisation) -> None:
        super().__init__()
        self.detector = detector
        self.normalisation = normalisation

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return decode(self.detector(self.normalisation.apply(image)), self.detector.strides)


@dataclass(frozen=True)
class OnnxReport:
    """Largest differences to torch over :data:`CHECK_SIZES`."""

    path: Path
    sizes: tuple[tuple[int, int], ...]
    score_error: float
    box_error: float

    @property
    def agrees(self) -> bool:
        """Whether scores and boxes are within :data:`TOLERANCE`."""
        return self.score_error <= TOLERANCE and self.box_error <= TOLERANCE

    def __str__(self) -> str:
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        verdict = "agrees with torch" if self.agrees else "DIFFERS from torch"
        return (
            f"{self.path} {verdict} at {sizes}: scores within {self.score_error:.1e}, "
            f"boxes within {self.box_error:.1e} of the image size"
        )


def export_onnx(
    detector: FCOS,
    normalisation: Normalisation,
    path: Path,
    *,
    with_nms: bool = False,
    metadata: dict[str, str] | None = None,
) -> OnnxReport:
    """Write ``detector`` to ``path`` and compare it with torch in onnxruntime.

    ``with_nms`` adds ONNX's NonMaxSuppression and the outputs ``nms_scores`` ``(1, K, P)`` and ``selected``
    ``(D, 3)``: rows of (image, class, location).

    Raises:
        InputError: the packages of the extra ``export`` are not installed; the file differs from torch (it is not
            written then).
    """
    onnx, _ = _packages()
    module = ExportedDetector(detector, normalisation).eval()
    height, width = (32 * torch.export.Dim(name, min=2, max=128) for name in ("rows", "columns"))
    # The exporter narrates through warnings and logging; what matters is checked below.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            (torch.rand(1, 3, *EXAMPLE_SIZE) * 255,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"image": {2: height, 3: width}},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # The exporter's symbolic shapes of inner values are wrong where sizes are rounded up (P6, P7); onnxruntime
    # plans its buffers by them. Without them it works the shapes out itself.
    del model.graph.value_info[:]
    if with_nms:
        _add_nms(model, detector)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    partial = path.with_name(f".{path.name}.part")
    onnx.save(model, str(partial))
    report = check_onnx(module, partial, CHECK_SIZES)
    if not report.agrees:
        partial.unlink()
        raise InputError(
            f"an exported detector must agree with torch within {TOLERANCE}",
            value=f"scores off by {report.score_error:.1e}, boxes by {report.box_error:.1e} of the image size",
            where=path,
            repair="Nothing was written. Please report it with the checkpoint's architecture.",
        )
    partial.replace(path)
    return replace(report, path=path)


def check_onnx(module: ExportedDetector, path: Path, sizes: Sequence[tuple[int, int]]) -> OnnxReport:
    """Run the file in onnxruntime and the module in torch on the same random images of ``sizes`` (H, W)."""
    _, onnxruntime = _packages()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    score_error = box_error = 0.0
    for height, width in sizes:
        image = torch.rand(1, 3, height, width, generator=generator) * 255
        with torch.no_grad():
            expected = [output.numpy() for output in module(image)]
        boxes, scores, centerness = session.run(list(OUTPUTS), {"image": image.numpy()})
        score_error = max(score_error, _largest(scores, expected[1]), _largest(centerness, expected[2]))
        box_error = max(box_error, _largest(boxes, expected[0]) / max(height, width))
    return OnnxReport(path, tuple(sizes), score_error, box_error)


def _largest(first: np.ndarray, second: np.ndarray) -> float:
    assert first.shape == second.shape, (first.shape, second.shape)
    return float(np.abs(first - second).max())


def _add_nms(model: Any, detector: FCOS) -> None:
    """Append score = sqrt(class * centerness) and NonMaxSuppression with the preset's thresholds."""
    onnx, _ = _packages()
    helper, proto = onnx.helper, onnx.TensorProto
    preset = detector.preset
    graph = model.graph

    def constant(name: str, values: list[float] | list[int], kind: int) -> None:
        graph.initializer.append(helper.make_tensor(name, kind, [len(values)], values))

    constant("nms_last_axis", [-1], proto.INT64)
    constant("nms_max_per_class", [preset.detections], proto.INT64)
    constant("nms_iou", [preset.nms_iou], proto.FLOAT)
    # The preset thresholds the class score before centerness; ONNX has one score, so the final one is used.
    constant("nms_score", [preset.score_threshold], proto.FLOAT)
    graph.node.extend(
        [
            helper.make_node("Unsqueeze", ["centerness", "nms_last_axis"], ["nms_centerness"]),
            helper.make_node("Mul", ["class_scores", "nms_centerness"], ["nms_product"]),
            helper.make_node("Sqrt", ["nms_product"], ["nms_rooted"]),
            helper.make_node("Transpose", ["nms_rooted"], ["nms_scores"], perm=[0, 2, 1]),
            helper.make_node(
                "NonMaxSuppression",
                ["boxes", "nms_scores", "nms_max_per_class", "nms_iou", "nms_score"],
                ["selected"],
                center_point_box=0,
            ),
        ]
    )
    graph.output.extend(
        [
            helper.make_tensor_value_info("nms_scores", proto.FLOAT, [1, "classes", "locations"]),
            helper.make_tensor_value_info("selected", proto.INT64, ["detections", 3]),
        ]
    )


def onnx_installed() -> bool:
    """Whether the packages of the extra ``export`` are there."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise InputError(
            "the export to ONNX needs onnx, onnxscript and onnxruntime",
            value=f"no module {error.name}",
            where="this Python environment",
            repair='Install them with: pip install "nasperc[export]"',
        ) from error
    return onnx, onnxruntime
