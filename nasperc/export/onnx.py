"""A trained detector as ONNX: image in, decoded boxes, class scores and centerness out; checked against torch."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.export.exported_detector import (
    CHECK_SIZES,
    OUTPUTS,
    Agreement,
    ExportedDetector,
    compare,
    example,
)
from nasperc.models.fcos import FCOS

# The first with DeformConv.
OPSET = 19


def export_onnx(
    detector: FCOS,
    normalisation: Normalisation,
    path: Path,
    *,
    with_nms: bool = False,
    metadata: dict[str, str] | None = None,
) -> Agreement:
    """Write ``detector`` to ``path`` and compare it with torch in onnxruntime.

    ``with_nms`` adds ONNX's NonMaxSuppression and the outputs ``nms_scores`` ``(1, K, P)`` and ``selected``
    ``(D, 3)``: rows of (image, class, location).

    Raises:
        InputError: the packages of the extra ``export`` are not installed; the file differs from torch (it is not
            written then).
    """
    onnx, _ = _packages()
    module = ExportedDetector(detector, normalisation).eval()
    arguments, dynamic_shapes = example()
    # The exporter narrates through warnings and logging; what matters is checked below.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes=dynamic_shapes,
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
    try:
        agreement = replace(check_onnx(module, partial, CHECK_SIZES), path=path)
        agreement.check()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return agreement


def check_onnx(module: ExportedDetector, path: Path, sizes: Sequence[tuple[int, int]]) -> Agreement:
    """Run the file in onnxruntime and the module in torch on the same random images of ``sizes`` (H, W)."""
    _, onnxruntime = _packages()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(x) for x in session.run(list(OUTPUTS), {"image": image.numpy()})]

    return compare(module, run, path, sizes)


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
