"""Networks as programs of torch.export."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
import torch.fx.experimental._config

from nasperc.errors import InputError
from nasperc.export.network import NetworkFormat
from nasperc.tasks.exported import Exported, Graph, Run

# A guard that says that there is more than one image.
_SEVERAL = re.compile(r"L\[.*\]\.size\(\)\[0\] (!=|>) 1")


class Pt2Format(NetworkFormat):
    """``.pt2``: it runs in torch without this package. torch promises to read it in the version that wrote it;
    metadata come back by ``extra_files`` of ``torch.export.load``."""

    # With it, every level of a padded image has sides of 2 and more. The tracer takes the strides of smaller levels for
    # another case, and the program would refuse them.
    smallest = 129
    check_sizes = ((150, 160), (192, 277), (301, 210))

    def write(self, exported: Exported, graph: Graph, metadata: dict[str, str], path: Path) -> None:
        """See :meth:`NetworkFormat.write`; torch takes files by the ending .pt2 only."""
        try:
            # Otherwise sizes are compared with 1 all over; torch's exporter to ONNX traces like this too.
            any_side = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
            with warnings.catch_warnings(), torch.no_grad(), any_side:
                warnings.simplefilter("ignore")
                arguments = tuple(graph.arguments.values())
                # A program is run, not trained: with gradients its loop would have to be differentiated.
                graph.module.requires_grad_(False)
                program = torch.export.export(graph.module, arguments, dynamic_shapes=graph.dynamic_shapes)
                # The kernels that torch would take for several images bind the program to several. They do not belong
                # to it: that it is right for one image is seen when it is compared.
                guards = getattr(program, "_guards_code", [])
                program._guards_code = [each for each in guards if not _SEVERAL.fullmatch(each.strip())]
                torch.export.save(program, path, extra_files=metadata)
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                "torch.export must take the network",
                value=(str(error).splitlines() or [type(error).__name__])[0],
                where=path.parent,
                repair="Nothing was written. Export to ONNX, and please report it with the checkpoint's architecture.",
            ) from error

    def open(self, graph: Graph, path: Path) -> Run:
        """See :meth:`NetworkFormat.open`; in torch."""
        return torch.export.load(path).module()
