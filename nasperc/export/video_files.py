"""A trained network for videos as two files, of ONNX or of torch.export, checked against torch over frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasperc.data.normalisation import Normalisation
from nasperc.export.caller import to_metadata, video_values
from nasperc.export.exported_video import OUTPUTS, Piece, Run, VideoAgreement, compare_video, video_pieces
from nasperc.export.onnx_file import SMALLEST as ONNX_SMALLEST
from nasperc.export.onnx_file import onnx_session, save_onnx, trace_onnx
from nasperc.export.pt2_file import SMALLEST, save_pt2
from nasperc.models.video_segmenter import VideoSegmenter
from nasperc.whole_files import writing_together

# Sizes at which files for any size are compared with torch right after they were written, (H, W).
CHECK_SIZES = ((64, 96), (128, 128), (160, 96))
PT2_CHECK_SIZES = ((160, 160), (192, 288), (320, 224))

Size = tuple[int, int]


def export_video_onnx(
    video: VideoSegmenter,
    normalisation: Normalisation,
    path: Path,
    *,
    size: Size | None = None,
    about: Mapping[str, Any] | None = None,
) -> VideoAgreement:
    """Write ``NAME-start.onnx`` and ``NAME-step.onnx`` for ``path`` NAME.onnx, and compare them with torch.

    Args:
        video: the network.
        normalisation: the backbone's, part of the graphs.
        path: names the two files.
        size: (H, W) of all frames; None: any, in multiples of 32.
        about: plain values that both files hold, beside what each says of its tensors.

    Raises:
        InputError: the packages of the extra ``export`` are not installed; the files differ from torch (none is
            written then).
    """

    def write(piece: Piece, part: Path) -> None:
        arguments = tuple(piece.arguments.values())
        names = tuple(piece.arguments)
        metadata = to_metadata({**(about or {}), **video_values(names, size, ONNX_SMALLEST)})
        model = trace_onnx(piece.module, arguments, names, OUTPUTS, piece.dynamic_shapes, metadata)
        save_onnx(model, part)

    pieces = video_pieces(video, normalisation, size, ONNX_SMALLEST)
    return _export(pieces, path, write, run_onnx, [size] if size else CHECK_SIZES)


def export_video_pt2(
    video: VideoSegmenter,
    normalisation: Normalisation,
    path: Path,
    *,
    size: Size | None = None,
    about: Mapping[str, Any] | None = None,
) -> VideoAgreement:
    """As :func:`export_video_onnx`, with programs of torch.export; sides of free sizes are at least 160.

    Raises:
        InputError: the network cannot be traced; the files differ from it (none is written then).
    """

    def write(piece: Piece, part: Path) -> None:
        arguments = tuple(piece.arguments.values())
        metadata = to_metadata({**(about or {}), **video_values(tuple(piece.arguments), size, SMALLEST)})
        save_pt2(piece.module, arguments, piece.dynamic_shapes, part, metadata)

    pieces = video_pieces(video, normalisation, size, SMALLEST)
    return _export(pieces, path, write, run_pt2, [size] if size else PT2_CHECK_SIZES)


def run_onnx(piece: Piece, path: Path) -> Run:
    """The file as a function of a piece's tensors, in onnxruntime."""
    session = onnx_session(path)

    def run(*values: Tensor) -> list[Tensor]:
        given = {name: value.numpy() for name, value in zip(piece.arguments, values, strict=True)}
        return [torch.from_numpy(each) for each in session.run(list(OUTPUTS), given)]

    return run


def run_pt2(piece: Piece, path: Path) -> Run:
    """The file as a function of a piece's tensors, in torch."""
    return torch.export.load(path).module()


def _export(
    pieces: tuple[Piece, Piece],
    path: Path,
    write: Callable[[Piece, Path], None],
    open_file: Callable[[Piece, Path], Run],
    sizes: Sequence[Size],
) -> VideoAgreement:
    """Both files are written beside their places, run as a loop, and put into place if they agree."""
    start, step = (piece.path(path) for piece in pieces)
    with writing_together((start, step)) as parts:
        for piece, part in zip(pieces, parts, strict=True):
            write(piece, part)
        first, following = (open_file(piece, part) for piece, part in zip(pieces, parts, strict=True))
        agreement = compare_video(pieces, (first, following), (start, step), sizes)
        agreement.check()
    return agreement
