"""What an exported file tells its caller to do, and what the graph does already: JSON values by key.

ONNX keeps them as metadata, a program of torch.export as extra files. ``classes`` is a list, in the order of the
scores; ``input`` and ``outputs`` have one entry for each tensor; ``resize`` says what a detector's images were resized
to before, ``reading`` by which rules files of images were read in training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nasperc.data.image_rules import ImageRules
from nasperc.data.normalisation import Normalisation
from nasperc.limits import LONGEST_SIDE

# Sides are halved five times.
MULTIPLE = 32


def common_values(classes: Sequence[str], images: ImageRules) -> dict[str, Any]:
    """For every file: grey of more than 8 bits has to be scaled by the caller as it was in training."""
    return {"classes": list(classes), "reading": images.model_dump(mode="json")}


def resize_values(short_side: int, max_long_side: int) -> dict[str, Any]:
    """For a detector's file: the sizes that it is measured with."""
    return {
        "resize": {
            "short_side": short_side,
            "max_long_side": max_long_side,
            "keep_aspect_ratio": True,
            "interpolation": "bilinear, antialiased",
        }
    }


def detector_values(normalisation: Normalisation, smallest: int, *, with_nms: bool = False) -> dict[str, Any]:
    """Of a detector's tensors.

    Args:
        normalisation: part of the graph.
        smallest: side that the file takes.
        with_nms: the graph has NonMaxSuppression.
    """
    image = _image(None, smallest)
    # The graph maps this colour to 0, which is what images are padded with in training.
    image["padding"] = {"at": ["bottom", "right"], "colour": list(normalisation.mean_colour)}
    outputs: dict[str, Any] = {
        "boxes": {"shape": [1, "P", 4], "box": ["x1", "y1", "x2", "y2"], "unit": "pixels of the input image"},
        "class_scores": {"shape": [1, "P", "classes"], "range": [0, 1]},
        "centerness": {"shape": [1, "P"], "range": [0, 1]},
    }
    if with_nms:
        outputs["nms_scores"] = {"shape": [1, "classes", "P"], "is": "sqrt(class_scores * centerness)"}
        outputs["selected"] = {"shape": ["D", 3], "row": ["image", "class", "location"]}
    return {"input": {"image": image}, "outputs": outputs, "score": "sqrt(class_scores * centerness)"}


def video_values(inputs: Sequence[str], size: tuple[int, int] | None, smallest: int) -> dict[str, Any]:
    """Of the tensors of one of a video network's two files.

    Args:
        inputs: names of the arguments, the image first.
        size: (H, W) of all frames; None: any.
        smallest: side of free sizes.
    """
    image, *state = inputs
    return {
        "input": {image: _image(size, smallest), **{name: {"is": _of_before(name)} for name in state}},
        "outputs": {
            "logits": {
                "shape": [1, "classes", "H/8", "W/8"],
                "labels": "the largest of the logits, upsampled bilinearly to the frame",
            },
            "next_layer4": {"is": "layer4 of the next frame"},
            "next_dec": {"is": "dec of the next frame"},
        },
    }


def to_metadata(values: Mapping[str, Any]) -> dict[str, str]:
    """As files hold them: each value in JSON."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def _image(size: tuple[int, int] | None, smallest: int) -> dict[str, Any]:
    free = {"multiple_of": MULTIPLE, "smallest": smallest, "largest": LONGEST_SIDE}
    return {
        "shape": [1, 3, *(size or ("H", "W"))],
        "layout": "NCHW",
        "dtype": "float32",
        "colours": "RGB",
        "range": [0, 255],
        "sides": list(size) if size else free,
        # The graph does it.
        "normalise": False,
    }


def _of_before(name: str) -> str:
    return f"next_{name} of the frame before"
