"""A network as an ONNX graph: what the exports of all tasks share."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasperc.errors import InputError

# The first with DeformConv.
OPSET = 19
# Of free sides.
SMALLEST = 64


def onnx_installed() -> bool:
    """Whether the packages of the extra ``export`` are there."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))


def onnx_packages() -> tuple[Any, Any]:
    """The modules ``onnx`` and ``onnxruntime``.

    Raises:
        InputError: the packages of the extra ``export`` are not installed.
    """
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


def trace_onnx(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: dict[str, Any] | None,
    metadata: Mapping[str, str],
) -> Any:
    """The ``onnx.ModelProto`` of ``module(*arguments)``, for tensors of these names.

    Args:
        module: in evaluation mode.
        arguments: to trace with.
        inputs: names of the arguments.
        outputs: names of what ``module`` returns.
        dynamic_shapes: ``torch.export``'s; None: every size is that of ``arguments``.
        metadata: stored in the file.

    Raises:
        InputError: the packages of the extra ``export`` are not installed.
    """
    onnx_packages()
    # The exporter narrates through warnings and logging; what matters is checked afterwards.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # The exporter's symbolic shapes of inner values are wrong where sizes are rounded up (P6, P7); onnxruntime
    # plans its buffers by them. Without them it works the shapes out itself.
    del model.graph.value_info[:]
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model


def save_onnx(model: Any, path: Path) -> None:
    """Check a model and write it."""
    onnx, _ = onnx_packages()
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def onnx_session(path: Path) -> Any:
    """An ``onnxruntime.InferenceSession`` of the file, on the CPU."""
    _, onnxruntime = onnx_packages()
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
