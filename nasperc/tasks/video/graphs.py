"""What the two exported files of a video segmenter compute, and how they are compared with torch over frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.limits import LONGEST_SIDE
from nasperc.models.video_segmenter import VideoSegmenter, VideoStart, VideoStep
from nasperc.tasks.caller import video_values
from nasperc.tasks.exported import Agreement, Exported, Graph, Run

OUTPUTS = ("logits", "next_layer4", "next_dec")
# Frames of a video, the first one included.
FRAMES = 5
# Largest difference of an output over the largest value of that output, after each of the frames.
TOLERANCE = 1e-3
_STRIDES = {"image": 1, "layer4": 32, "dec": 8}
# Large enough that no level has a side of 1, which the tracer would take for a constant.
_EXAMPLE_SIZE = (256, 384)


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


class VideoGraphs(Exported):
    """A network for videos as two graphs, ``start`` and ``step``.

    Args:
        video: the network.
        normalisation: the backbone's; it becomes part of the graphs.
        about: plain values that both files hold, beside what each says of its tensors.
        size: (H, W) of all frames. None: free, multiples of 32 up to :data:`LONGEST_SIDE`.
    """

    def __init__(
        self,
        video: VideoSegmenter,
        normalisation: Normalisation,
        about: Mapping[str, Any] | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.start = ExportedStart(video, normalisation).eval()
        self.step = ExportedStep(video, normalisation).eval()
        self.about, self.size = about or {}, size

    def graphs(self, smallest: int) -> tuple[Graph, ...]:
        """See :meth:`Exported.graphs`."""
        image = torch.rand(1, 3, *(self.size or _EXAMPLE_SIZE)) * 255
        with torch.no_grad():
            _, layer4, dec = self.start(image)
        shapes = None if self.size is not None else _free_shapes(smallest)

        def graph(name: str, module: nn.Module, arguments: dict[str, Tensor]) -> Graph:
            free = None if shapes is None else {each: shapes[each] for each in arguments}
            values = video_values(tuple(arguments), self.size, smallest)
            return Graph(name, module, arguments, OUTPUTS, free, values)

        return (
            graph("start", self.start, {"image": image}),
            graph("step", self.step, {"image": image, "layer4": layer4, "dec": dec}),
        )

    def compare(
        self,
        graphs: Sequence[Graph],
        runs: Sequence[Run],
        paths: Sequence[Path],
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
                    expected = graphs[now].module(image, *expected[1:])
                    found = runs[now](image, *found[1:])
                error = max(error, *(_difference(*each) for each in zip(found, expected, strict=True)))
        return VideoAgreement(tuple(paths), tuple(sizes), error, self.size is None)


def _free_shapes(smallest: int) -> dict[str, Any]:
    sides = [
        torch.export.Dim(name, min=smallest // 32, max=LONGEST_SIDE // 32) for name in ("rows", "columns")
    ]
    return {
        name: {axis: side if stride == 32 else (32 // stride) * side for axis, side in enumerate(sides, 2)}
        for name, stride in _STRIDES.items()
    }


@dataclass(frozen=True)
class VideoAgreement(Agreement):
    """Largest relative difference of the files' outputs to torch's over videos of ``sizes`` (H, W)."""

    paths: tuple[Path, ...]
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


def _difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
