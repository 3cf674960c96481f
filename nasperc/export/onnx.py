"""A trained detector as ONNX: image in, decoded boxes, class scores and centerness out; checked against torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasperc.data.normalisation import Normalisation
from nasperc.export.caller import detector_values, to_metadata
from nasperc.export.exported_detector import (
    CHECK_SIZES,
    OUTPUTS,
    Agreement,
    ExportedDetector,
    compare,
    example,
)
from nasperc.export.onnx_file import SMALLEST, onnx_packages, onnx_session, save_onnx, trace_onnx
from nasperc.models.fcos.model import FCOS
from nasperc.whole_files import writing_whole


def export_onnx(
    detector: FCOS,
    normalisation: Normalisation,
    path: Path,
    *,
    with_nms: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Agreement:
    """Write ``detector`` to ``path`` and compare it with torch in onnxruntime.

    Args:
        detector: the network.
        normalisation: the backbone's, part of the graph.
        path: of the file.
        with_nms: add ONNX's NonMaxSuppression and the outputs ``nms_scores`` ``(1, K, P)`` and ``selected``
            ``(D, 3)``: rows of (image, class, location).
        about: plain values for the file's metadata, beside what it says of its tensors.

    Raises:
        InputError: the packages of the extra ``export`` are not installed; the file differs from torch (it is not
            written then).
    """
    module = ExportedDetector(detector, normalisation).eval()
    arguments, dynamic_shapes = example(SMALLEST)
    values = detector_values(normalisation, SMALLEST, with_nms=with_nms)
    metadata = to_metadata({**(about or {}), **values})
    model = trace_onnx(module, arguments, ["image"], OUTPUTS, dynamic_shapes, metadata)
    if with_nms:
        _add_nms(model, detector)
    with writing_whole(path) as part:
        save_onnx(model, part)
        agreement = replace(check_onnx(module, part, CHECK_SIZES), path=path)
        agreement.check()
    return agreement


def check_onnx(module: ExportedDetector, path: Path, sizes: Sequence[tuple[int, int]]) -> Agreement:
    """Run the file in onnxruntime and the module in torch on the same random images of ``sizes`` (H, W)."""
    session = onnx_session(path)

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(x) for x in session.run(list(OUTPUTS), {"image": image.numpy()})]

    return compare(module, run, path, sizes)


def _add_nms(model: Any, detector: FCOS) -> None:
    """Append score = sqrt(class * centerness) and NonMaxSuppression with the preset's thresholds."""
    onnx, _ = onnx_packages()
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
