"""A network as a file of torch.export: what the exports of all tasks share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.fx.experimental._config
from torch import Tensor, nn

from nasperc.errors import InputError

# Every level of a detector's image has sides of 2 and more. The tracer takes the strides of smaller levels for another
# case, and the program would refuse them.
SMALLEST = 160


def save_pt2(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    dynamic_shapes: dict[str, Any] | None,
    path: Path,
    metadata: dict[str, str],
) -> None:
    """Trace ``module(*arguments)`` and write the program.

    Args:
        module: in evaluation mode.
        arguments: to trace with.
        dynamic_shapes: ``torch.export``'s; None: every size is that of ``arguments``.
        path: ends in .pt2: torch takes files by that ending only.
        metadata: comes back by ``extra_files`` of ``torch.export.load``.

    Raises:
        InputError: the network cannot be traced.
    """
    try:
        # Otherwise sizes are compared with 1 all over; torch's exporter to ONNX traces like this too.
        any_side = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
        with warnings.catch_warnings(), torch.no_grad(), any_side:
            warnings.simplefilter("ignore")
            program = torch.export.export(module, arguments, dynamic_shapes=dynamic_shapes)
            torch.export.save(program, path, extra_files=metadata)
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            "torch.export must take the network",
            value=(str(error).splitlines() or [type(error).__name__])[0],
            where=path.parent,
            repair="Nothing was written. Export to ONNX, and please report it with the checkpoint's architecture.",
        ) from error
