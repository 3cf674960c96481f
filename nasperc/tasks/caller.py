"""What an exported file tells its caller to do, and what the graph does already: JSON values by key.

ONNX keeps them as metadata, a program of torch.export as extra files. ``nasperc`` is the version
that wrote the file; ``classes`` a list, in the order of the labels; ``input`` and ``outputs`` have one entry for each
tensor; ``resize`` says what a detector's images were resized to before, ``reading`` by which rules files of images were
read in training, ``score`` and ``suppression`` how detections were scored and chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from nasperc.data.image_rules import ImageRules
from nasperc.tasks.exported import Exported, Graph


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
            "rounding": "sides to the nearest pixel, halves up",
            "interpolation": "bilinear, antialiased",
        }
    }


def file_values(exported: Exported, graph: Graph) -> dict[str, Any]:
    """All that one file says."""
    return {
        "nasperc": version("nasperc"),
        **exported.about,
        **graph.values,
        "outputs": {name: dict(said) for name, said in graph.outputs.items()},
    }


def to_metadata(values: Mapping[str, Any]) -> dict[str, str]:
    """As files hold them: each value in JSON."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
