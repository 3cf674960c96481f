"""A trained detector as a program of ``torch.export``: it runs in torch without this package; checked against eager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nasperc.data.normalisation import Normalisation
from nasperc.export.caller import detector_values, to_metadata
from nasperc.export.exported_detector import Agreement, ExportedDetector, compare, example
from nasperc.export.pt2_file import SMALLEST, save_pt2
from nasperc.models.fcos.model import FCOS
from nasperc.whole_files import writing_whole

# Sizes at which the program is compared with eager right after it was written, (H, W).
CHECK_SIZES = ((160, 160), (192, 288), (320, 224))


def export_pt2(
    detector: FCOS, normalisation: Normalisation, path: Path, *, about: Mapping[str, Any] | None = None
) -> Agreement:
    """Write :class:`ExportedDetector` for images of any size to ``path``, read it back and compare the two.

    H and W are multiples of 32, at least :data:`SMALLEST`: smaller images are padded.
    ``torch.export.load(path).module()`` runs it; ``about``, plain values, comes back by ``extra_files`` beside what
    the file says of its tensors, in JSON. torch promises to read the file in the version that wrote it.

    Raises:
        InputError: the network cannot be traced, or the file differs from it (it is not written then).
    """
    module = ExportedDetector(detector, normalisation).eval()
    arguments, dynamic_shapes = example(SMALLEST)
    # torch takes files by that ending only.
    with writing_whole(path, suffix=".pt2") as part:
        metadata = to_metadata({**(about or {}), **detector_values(normalisation, SMALLEST)})
        save_pt2(module, arguments, dynamic_shapes, part, metadata)
        agreement = replace(check_pt2(module, part, CHECK_SIZES), path=path)
        agreement.check()
    return agreement


def check_pt2(module: ExportedDetector, path: Path, sizes: Sequence[tuple[int, int]]) -> Agreement:
    """Run the file and the module on the same random images of ``sizes`` (H, W)."""
    return compare(module, torch.export.load(path).module(), path, sizes)
