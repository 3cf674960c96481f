"""Networks as ONNX graphs."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasperc.errors import InputError
from nasperc.export.network import NetworkFormat
from nasperc.tasks.exported import Exported, Graph, Run

# The first with DeformConv.
OPSET = 19


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


class OnnxFormat(NetworkFormat):
    """``.onnx``, run by onnxruntime."""

    smallest = 1
    # None is what was traced, nor a multiple of a divisor.
    check_sizes = ((97, 150), (128, 128), (210, 75))

    def write(self, exported: Exported, graph: Graph, metadata: dict[str, str], path: Path) -> None:
        """See :meth:`NetworkFormat.write`."""
        onnx, _ = onnx_packages()
        model = _trace(graph)
        _name_sizes(graph, model)
        for key, value in metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.checker.check_model(model)
        onnx.save(model, str(path))

    def open(self, graph: Graph, path: Path) -> Run:
        """See :meth:`NetworkFormat.open`; on the CPU."""
        _, onnxruntime = onnx_packages()
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

        def run(*values: Tensor) -> list[Tensor]:
            given = {name: value.numpy() for name, value in zip(graph.arguments, values, strict=True)}
            return [torch.from_numpy(each) for each in session.run(list(graph.outputs), given)]

        return run


def _name_sizes(graph: Graph, model: Any) -> None:
    """Free sizes of outputs get the names that the file says; the tracer's are formulas as long as a line."""
    for output in model.graph.output:
        shape = graph.outputs[output.name]["shape"]
        for size, name in zip(output.type.tensor_type.shape.dim, shape, strict=True):
            if isinstance(name, str):
                size.dim_param = name


def _trace(graph: Graph) -> Any:
    """The ``onnx.ModelProto``."""
    # The exporter narrates through warnings and logging; what matters is checked afterwards.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph.module,
            tuple(graph.arguments.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.arguments),
            output_names=list(graph.outputs),
            dynamic_shapes=graph.dynamic_shapes,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # The exporter's symbolic shapes of inner values are wrong where sizes are rounded up (P6, P7); onnxruntime
    # plans its buffers by them. Without them it works the shapes out itself.
    del model.graph.value_info[:]
    return model
