"""A trained network of any task as ONNX or a program of torch.export."""

from __future__ import annotations

from pathlib import Path

from nasperc.errors import InputError
from nasperc.export.caller import common_values, resize_values
from nasperc.export.exported_detector import Agreement
from nasperc.export.exported_video import VideoAgreement
from nasperc.export.onnx import export_onnx
from nasperc.export.pt2 import export_pt2
from nasperc.export.video_files import export_video_onnx, export_video_pt2
from nasperc.fulltrain.trained import Trained
from nasperc.fulltrain.trained_segmenter import TrainedSegmenter
from nasperc.models.fcos.model import FCOS
from nasperc.models.video_segmenter import VideoSegmenter


def export_trained(
    trained: Trained, path: Path, *, with_nms: bool = False, size: tuple[int, int] | None = None
) -> Agreement | VideoAgreement:
    """Write the network to ``path``, which ends in .onnx or .pt2; of one for videos, its two files.

    Args:
        trained: with a searched part.
        path: of the file, or what names the two.
        with_nms: detectors in ONNX: with NonMaxSuppression.
        size: networks for videos: (H, W) of all frames; None: any.

    Returns:
        How far it agrees with torch.

    Raises:
        InputError: an option of the other task; as the export of each.
    """
    about = common_values(trained.classes, trained.images)
    onnx = path.suffix == ".onnx"
    if isinstance(trained, TrainedSegmenter):
        if with_nms:
            _reject("--with-nms", "detectors", "a network for videos")
        assert isinstance(trained.model, VideoSegmenter)
        export_video = export_video_onnx if onnx else export_video_pt2
        return export_video(trained.model, trained.normalisation, path, size=size, about=about)
    if size is not None:
        _reject("--size", "networks for videos", "a detector")
    assert isinstance(trained.model, FCOS)
    about |= resize_values(trained.training.test_short_side, trained.training.max_long_side)
    if onnx:
        return export_onnx(trained.model, trained.normalisation, path, with_nms=with_nms, about=about)
    return export_pt2(trained.model, trained.normalisation, path, about=about)


def _reject(option: str, task: str, found: str) -> None:
    raise InputError(f"{option} is for {task}", value=found, where=option, repair="Leave it out.")
