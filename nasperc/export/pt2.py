"""A trained detector as a program of ``torch.export``: it runs in torch without this package; checked against eager."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.fx.experimental._config

from nasperc.data.normalisation import Normalisation
from nasperc.export.exported_detector import CHECK_SIZES, Agreement, ExportedDetector, compare, example
from nasperc.models.fcos import FCOS


def export_pt2(
    detector: FCOS, normalisation: Normalisation, path: Path, *, metadata: dict[str, str] | None = None
) -> Agreement:
    """Write :class:`ExportedDetector` for images of any size to ``path``, read it back and compare the two.

    ``torch.export.load(path).module()`` runs it; ``metadata`` comes back by ``extra_files``. torch promises to
    read the file in the version that wrote it.

    Raises:
        InputError: the file differs from the network (it is not written then).
    """
    module = ExportedDetector(detector, normalisation).eval()
    arguments, dynamic_shapes = example()
    # torch takes files by that ending only.
    part = path.with_name(f".part-{path.stem}.pt2")
    try:
        # Levels of small images have sides of 1, which the tracer otherwise rules out (ONNX's sets this too).
        any_side = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
        with warnings.catch_warnings(), torch.no_grad(), any_side:
            warnings.simplefilter("ignore")
            program = torch.export.export(module, arguments, dynamic_shapes=dynamic_shapes)
            torch.export.save(program, part, extra_files=metadata)
        agreement = replace(check_pt2(module, part, CHECK_SIZES), path=path)
        agreement.check()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return agreement


def check_pt2(module: ExportedDetector, path: Path, sizes: Sequence[tuple[int, int]]) -> Agreement:
    """Run the file and the module on the same random images of ``sizes`` (H, W)."""
    return compare(module, torch.export.load(path).module(), path, sizes)
