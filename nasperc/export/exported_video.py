"""What the two exported files of a video segmenter compute, and how they are compared with torch over frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.limits import LONGEST_SIDE
from nasperc.models.video_segmenter import VideoSegmenter, VideoStart, VideoStep

OUTPUTS = ("logits", "next_layer4", "next_dec")
# Frames of a video, the first one included.
FRAMES = 5
# Largest difference of an output over the largest value of that output, after each of the frames.
TOLERANCE = 1e-3
_STRIDES = {"image": 1, "layer4": 32, "dec": 8}
# Large enough that no level has a side of 1, which the tracer would take for a constant.
_EXAMPLE_SIZE = (256, 384)

Run = Callable[..., Sequence[Tensor]]


class ExportedStart(nn.Module):
    """``forward(image)``: the first frame ``(1, 3, H, W)``, float32 RGB in 0..255 -> ``logits``
    ``(1, K, H / 8, W / 8)`` (rounded up; labels are the largest of the upsampled logits) and the state, which is
    ``layer4`` and ``dec`` of the next frame."""

    def __init__(self, video: VideoSegmenter, normalisation: Normalisation) -> None:
        super().__init__()
        self.start, self.normalisation = VideoStart(video), normalisation

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.start(self.normalisation.apply(image))


class ExportedStep(nn.Module):
    """``forward(image, layer4, dec)``: any other frame, and the state that the frame before it left -> the same."""

    def __init__(self, video: VideoSegmenter, normalisation: Normalisation) -> None:
        super().__init__()
        self.step, self.normalisation = VideoStep(video), normalisation

    def forward(self, image: Tensor, layer4: Tensor, dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.step(self.normalisation.apply(image), layer4, dec)


class Piece(NamedTuple):
    """One of the two files: the module, and what it is traced with."""

    name: str
    module: nn.Module
    arguments: dict[str, Tensor]
    dynamic_shapes: dict[str, Any] | None

    def path(self, path: Path) -> Path:
        """``NAME-start.onnx`` for ``NAME.onnx``."""
        return path.with_name(f"{path.stem}-{self.name}{path.suffix}")


def video_pieces(
    video: VideoSegmenter, normalisation: Normalisation, size: tuple[int, int] | None, smallest: int
) -> tuple[Piece, Piece]:
    """``start`` and ``step``.

    Args:
        video: the network.
        normalisation: the backbone's; it becomes part of the graphs.
        size: (H, W) of all frames. None: free, multiples of 32 from ``smallest`` to :data:`LONGEST_SIDE`.
        smallest: of the free sizes, a multiple of 32.
    """
    start = ExportedStart(video, normalisation).eval()
    step = ExportedStep(video, normalisation).eval()
    image = torch.rand(1, 3, *(size or _EXAMPLE_SIZE)) * 255
    with torch.no_grad():
        _, layer4, dec = start(image)
    arguments = {"image": image, "layer4": layer4, "dec": dec}
    shapes = None if size is not None else _free_shapes(smallest)
    return (
        Piece("start", start, {"image": image}, shapes and {"image": shapes["image"]}),
        Piece("step", step, arguments, shapes),
    )


def _free_shapes(smallest: int) -> dict[str, Any]:
    sides = [
        torch.export.Dim(name, min=smallest // 32, max=LONGEST_SIDE // 32) for name in ("rows", "columns")
    ]
    return {
        name: {axis: side if stride == 32 else (32 // stride) * side for axis, side in enumerate(sides, 2)}
        for name, stride in _STRIDES.items()
    }


@dataclass(frozen=True)
class VideoAgreement:
    """Largest relative difference of the files' outputs to torch's over videos of ``sizes`` (H, W)."""

    paths: tuple[Path, Path]
    sizes: tuple[tuple[int, int], ...]
    error: float
    any_size: bool

    @property
    def agrees(self) -> bool:
        """Whether all outputs are within :data:`TOLERANCE`."""
        return self.error <= TOLERANCE

    def check(self) -> None:
        """Do nothing if it agrees.

        Raises:
            InputError: it does not.
        """
        if self.agrees:
            return
        raise InputError(
            f"an exported network must agree with torch within {TOLERANCE} over {FRAMES} frames",
            value=f"outputs off by {self.error:.1e}",
            where=self.paths[-1],
            repair="Nothing was written. Please report it with the checkpoint's architecture.",
        )

    def __str__(self) -> str:
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        verdict = "agree with torch" if self.agrees else "DIFFER from torch"
        takes = "frames of any size in multiples of 32" if self.any_size else f"frames of {sizes} alone"
        return (
            f"{' and '.join(map(str, self.paths))} {verdict} over {FRAMES} frames of {sizes}: outputs within "
            f"{self.error:.1e} of the largest; they take {takes}"
        )


def compare_video(
    pieces: tuple[Piece, Piece],
    runs: tuple[Run, Run],
    paths: tuple[Path, Path],
    sizes: Sequence[tuple[int, int]],
) -> VideoAgreement:
    """Run two loops over random frames, one of the files (``runs``) and one of torch, each with its own state."""
    generator = torch.Generator().manual_seed(0)
    error = 0.0
    for height, width in sizes:
        expected: Sequence[Tensor] = ()
        found: Sequence[Tensor] = ()
        for frame in range(FRAMES):
            image = torch.rand(1, 3, height, width, generator=generator) * 255
            now = min(frame, 1)
            with torch.no_grad():
                expected = pieces[now].module(image, *expected[1:])
                found = runs[now](image, *found[1:])
            error = max(error, *(_difference(*each) for each in zip(found, expected, strict=True)))
    return VideoAgreement(paths, tuple(sizes), error, pieces[0].dynamic_shapes is not None)


def _difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
