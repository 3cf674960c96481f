"""What the two exported files of a video segmenter compute, and how they are compared with torch over frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.limits import LONGEST_SIDE
from nasperc.models.video_segmenter import CellOutput, State, VideoSegmenter
from nasperc.ops.resize import resize_to
from nasperc.tasks.exported import Agreement, Exported, Graph, Run
from nasperc.tasks.raw_images import RawImages, drawn_images, example_image, free_sides, image_values

# Frames of a video, the first one included.
FRAMES = 5
# Largest difference of the logits and of the state over the largest value of each, after each of the frames.
TOLERANCE = 1e-3
# Share of the pixels whose label may differ: those at which two classes are as good as each other.
LABEL_TOLERANCE = 1e-3
_STRIDES = {"layer4": 32, "dec": 8}


class ExportedStart(nn.Module):
    """``forward(image)``: the first frame (N, 3, H, W), float32 RGB in 0..255 -> ``labels`` (N, H, W) int64, and the
    state, which is ``layer4`` and ``dec`` of the next frame. Nothing is padded, as in training and evaluation.

    Args:
        video: the network.
        normalisation: the backbone's.
        dense: in place of the labels ``logits`` (N, K, H / 8, W / 8), rounded up; labels are the largest of them,
            upsampled bilinearly.
    """

    def __init__(self, video: VideoSegmenter, normalisation: Normalisation, *, dense: bool = False) -> None:
        super().__init__()
        self.video, self.dense = video, dense
        self.raw = RawImages(normalisation, divisor=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, state = self.video.start(self.raw(image))
        return self.shown(logits, image), state.layer4, state.dec

    def shown(self, logits: Tensor, image: Tensor) -> Tensor:
        """Labels of the frame, or the logits as they are."""
        return logits if self.dense else resize_to(logits, (image.shape[2], image.shape[3])).argmax(1)


class ExportedStep(ExportedStart):
    """``forward(image, layer4, dec)``: any other frame, and the state that the frame before it left -> the same."""

    def forward(self, image: Tensor, layer4: Tensor, dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        levels = self.video.static.encode(self.raw(image))[-3:]
        # They have these sizes; the tracer learns so that they follow from the image's.
        before = State(_as_large_as(layer4, levels[-1]), _as_large_as(dec, levels[0]))
        output: CellOutput = self.video.cell(before, levels)
        return self.shown(output.logits, image), levels[-1], output.dec


class VideoGraphs(Exported):
    """A network for videos as two graphs, ``start`` and ``step``.

    Args:
        video: the network.
        normalisation: the backbone's; it becomes part of the graphs.
        about: plain values that both files hold, beside what each says of its tensors.
        size: (H, W) of all frames. None: free, up to :data:`LONGEST_SIDE`.
        dense: logits in place of labels.
    """

    def __init__(
        self,
        video: VideoSegmenter,
        normalisation: Normalisation,
        about: Mapping[str, Any] | None = None,
        *,
        size: tuple[int, int] | None = None,
        dense: bool = False,
    ) -> None:
        self.video, self.dense = video, dense
        self.start = ExportedStart(video, normalisation, dense=dense).eval()
        self.step = ExportedStep(video, normalisation, dense=dense).eval()
        self.about, self.size = about or {}, size

    def graphs(self, smallest: int) -> tuple[Graph, ...]:
        """See :meth:`Exported.graphs`."""
        image = example_image(self.size)[:1]
        with torch.no_grad():
            _, layer4, dec = self.start(image)
        arguments = {"image": image, "layer4": layer4, "dec": dec}
        return (
            self._graph("start", self.start, {"image": image}, arguments, smallest),
            self._graph("step", self.step, arguments, arguments, smallest),
        )

    def _graph(
        self,
        name: str,
        module: nn.Module,
        arguments: dict[str, Tensor],
        known: Mapping[str, Tensor],
        smallest: int,
    ) -> Graph:
        """``known``: image and state, whatever the graph takes of them."""
        # One video at a time: a state belongs to a video, and programs of several are bound to more than one.
        sides = {axis: side for axis, side in free_sides(smallest).items() if axis > 0}
        free: dict[str, dict[int, Any]] = {"image": sides}
        shapes: dict[str, list[int | str]] = {}
        for each, stride in _STRIDES.items():
            names = (f"height{stride}", f"width{stride}")
            own = (torch.export.Dim(side, min=1, max=LONGEST_SIDE) for side in names)
            free[each] = dict(zip(sides, own, strict=True))
            shapes[each] = [*known[each].shape]
            if self.size is None:
                shapes[each][2:] = names
        if self.size is not None:
            free = {each: {} for each in free}
        height, width = self.size or ("height", "width")
        shown: dict[str, Any] = {"labels": {"shape": [1, height, width], "is": "index into classes"}}
        if self.dense:
            classes: int = self.video.static.classifier.out_channels
            about = "labels are the largest of the logits, upsampled bilinearly to the frame"
            shown = {"logits": {"shape": [1, classes, *shapes["dec"][2:]], "is": about}}
        state = {
            f"next_{each}": {"shape": shape, "is": f"{each} of the next frame"}
            for each, shape in shapes.items()
        }
        given = {
            each: {"shape": shapes[each], "is": f"next_{each} of the frame before"}
            for each in arguments
            if each != "image"
        }
        values = {
            "input": {"image": {**image_values(self.size, smallest), "shape": [1, 3, height, width]}, **given}
        }
        return Graph(
            name, module, arguments, {**shown, **state}, {each: free[each] for each in arguments}, values
        )

    def compare(
        self,
        graphs: Sequence[Graph],
        runs: Sequence[Run],
        paths: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
    ) -> VideoAgreement:
        """Run two loops over drawn frames, one of the files (``runs``) and one of torch, each with its own state."""
        error = labels = 0.0
        for seed, size in enumerate(sizes):
            expected: Sequence[Tensor] = ()
            found: Sequence[Tensor] = ()
            for frame in range(FRAMES):
                images = drawn_images(1, size, FRAMES * seed + frame)
                now = min(frame, 1)
                with torch.no_grad():
                    expected = graphs[now].module(images, *expected[1:])
                    found = runs[now](images, *found[1:])
                shown = 0 if self.dense else 1
                error = max(
                    error, *(_difference(*each) for each in zip(found[shown:], expected[shown:], strict=True))
                )
                if not self.dense:
                    labels = max(labels, float((found[0] != expected[0]).float().mean()))
        return VideoAgreement(tuple(paths), tuple(sizes), error, labels, self.size is None)


@dataclass(frozen=True)
class VideoAgreement(Agreement):
    """Over videos of ``sizes`` (H, W): ``error``, largest relative difference of the state (and of logits) to torch's;
    ``labels``, largest share of a batch's pixels with another label."""

    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    error: float
    labels: float
    any_size: bool

    @property
    def agrees(self) -> bool:
        """Whether outputs are within :data:`TOLERANCE`, and labels within :data:`LABEL_TOLERANCE`."""
        return self.error <= TOLERANCE and self.labels <= LABEL_TOLERANCE

    def check(self) -> None:
        """Do nothing if it agrees.

        Raises:
            InputError: it does not.
        """
        if self.agrees:
            return
        raise InputError(
            f"an exported network must agree with torch within {TOLERANCE} over {FRAMES} frames",
            value=f"outputs off by {self.error:.1e}, labels at {self.labels:.1e} of the pixels",
            where=self.paths[-1],
            repair="Nothing was written. Please report it with the checkpoint's architecture.",
        )

    def __str__(self) -> str:
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        verdict = "agree with torch" if self.agrees else "DIFFER from torch"
        takes = "frames of any size" if self.any_size else f"frames of {sizes} alone"
        return (
            f"{' and '.join(map(str, self.paths))} {verdict} over {FRAMES} frames of {sizes}: outputs within "
            f"{self.error:.1e} of the largest, labels but for {self.labels:.1e} of the pixels; they take {takes}"
        )


def _as_large_as(state: Tensor, level: Tensor) -> Tensor:
    return F.interpolate(state, size=(level.shape[2], level.shape[3]), mode="nearest")


def _difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
