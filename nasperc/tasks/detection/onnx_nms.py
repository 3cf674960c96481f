"""NonMaxSuppression at the end of a detector's ONNX graph."""

from __future__ import annotations

from typing import Any

from nasperc.models.fcos.preset import FCOSPreset


def append_nms(model: Any, preset: FCOSPreset) -> None:
    """Append score = sqrt(class * centerness) and NonMaxSuppression with the preset's thresholds.

    Args:
        model: an ``onnx.ModelProto`` with the outputs ``boxes``, ``class_scores`` and ``centerness``.
        preset: of the head.
    """
    # Whoever has such a model has the package, which is an extra.
    import onnx

    helper, proto = onnx.helper, onnx.TensorProto
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
