"""Segmentation of videos: a static network on the first frame, a dynamic cell on all others (thesis 6.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.segmenter import StaticSegmenter


class State(NamedTuple):
    """What a frame leaves to the next: layer 4 of its encoder (N, C, H / 32, W / 32), ``dec`` (N, C, H / 8, W / 8)."""

    layer4: Tensor
    dec: Tensor


class CellOutput(NamedTuple):
    """``logits`` (N, K, H / 8, W / 8); ``dec`` (N, C, H / 8, W / 8): the decoder's output for the next frame."""

    logits: Tensor
    dec: Tensor


class VideoCell(Protocol):
    """``forward(state of the frame before, [layer 2, layer 3, layer 4] of this one) -> CellOutput``.

    ``classifier``: its 3x3 convolution from ``dec`` to K classes.
    """

    classifier: nn.Conv2d

    def __call__(self, state: State, levels: list[Tensor]) -> CellOutput: ...


def unroll(cell: VideoCell | nn.Module, state: State, frames: Sequence[list[Tensor]]) -> list[Tensor]:
    """Logits of each of the frames that follow ``state``, the cell's output being the next frame's *dec*.

    ``frames``: layers 2, 3 and 4 of each, from an encoder or cached ones.
    """
    logits = []
    for levels in frames:
        output = cell(state, levels)
        state = State(levels[-1], output.dec)
        logits.append(output.logits)
    return logits


def initialise_classifier(cell: nn.Module, classifier: nn.Conv2d) -> None:
    """Start the cell's classifier from the static network's, in place.

    Raises:
        InputError: they have other numbers of channels or classes.
    """
    own: nn.Conv2d = cell.classifier  # type: ignore[assignment]
    if own.weight.shape != classifier.weight.shape:
        raise InputError(
            "the classifiers of a dynamic cell and of its static network must have one shape",
            value=f"{tuple(own.weight.shape)} and {tuple(classifier.weight.shape)}",
            where="dynamic cell",
            repair="Build the cell on this network's outputs, for its classes.",
        )
    own.load_state_dict(classifier.state_dict())


class VideoSegmenter(nn.Module):
    """``forward(frames) -> logits``, a list by frame; or frame by frame with :meth:`start` and :meth:`step`.

    The decoder of the static network only runs on the first frame, its encoder on every one.

    Args:
        static: the per-frame network.
        cell: keeps the contract of :class:`VideoCell`, built on ``static.cell_inputs``.
    """

    def __init__(self, static: StaticSegmenter, cell: nn.Module) -> None:
        super().__init__()
        self.static = static
        self.cell = cell

    def forward(self, frames: Sequence[Tensor]) -> list[Tensor]:
        """Logits (N, K, H / 8, W / 8) of each of the normalised ``frames`` (N, 3, H, W), which follow one another.

        Raises:
            InputError: no frame.
        """
        first, state, levels = self.observe(frames)
        return [first, *unroll(self.cell, state, levels)]

    def observe(self, frames: Sequence[Tensor]) -> tuple[Tensor, State, list[list[Tensor]]]:
        """All that the static network does with ``frames``, as for :meth:`forward`: logits of the first frame, what
        it leaves to the next, and layers 2, 3 and 4 of all others, for :func:`unroll`.

        Raises:
            InputError: no frame.
        """
        if not frames:
            raise InputError(
                "a video must have at least one frame",
                value="none",
                where="input of the video segmenter",
                repair="Give the frames in their order.",
            )
        # The encoder knows no time: one batch of all frames keeps the device busier than one frame after another.
        encoded = self.static.encode(torch.cat(list(frames)))
        features = [list(each) for each in zip(*(x.chunk(len(frames)) for x in encoded), strict=True)]
        logits, state = self._first(features[0])
        return logits, state, [each[-3:] for each in features[1:]]

    def start(self, image: Tensor) -> tuple[Tensor, State]:
        """Logits of the first frame (N, 3, H, W), and what it leaves to the next."""
        return self._first(self.static.encode(image))

    def step(self, state: State, image: Tensor) -> tuple[Tensor, State]:
        """Logits of a frame (N, 3, H, W) after the one that left ``state``, and what it leaves to the next."""
        levels = self.static.encode(image)[-3:]
        output: CellOutput = self.cell(state, levels)
        return output.logits, State(levels[-1], output.dec)

    def _first(self, features: list[Tensor]) -> tuple[Tensor, State]:
        dec = self.static.decode(features).dec
        return self.static.classifier(dec), State(features[-1], dec)


class VideoStep(nn.Module):
    """:meth:`VideoSegmenter.step` with tensors alone, to be exported: the way to run it is a loop over frames.

    ``forward(image (N, 3, H, W), layer4, dec) -> (logits, layer4, dec)``, the last two for the next call.
    """

    def __init__(self, video: VideoSegmenter) -> None:
        super().__init__()
        self.video = video

    def forward(self, image: Tensor, layer4: Tensor, dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, state = self.video.step(State(layer4, dec), image)
        return logits, state.layer4, state.dec


class VideoStart(nn.Module):
    """:meth:`VideoSegmenter.start` with tensors alone: ``forward(image) -> (logits, layer4, dec)``."""

    def __init__(self, video: VideoSegmenter) -> None:
        super().__init__()
        self.video = video

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, state = self.video.start(image)
        return logits, state.layer4, state.dec


class LaterFrame(nn.Module):
    """What runs on every frame after the first, to be timed and counted: ``forward(image) -> logits``.

    Encoder and cell, on a state of the given frame ``size`` (H, W) that is kept as it is.
    """

    def __init__(self, video: VideoSegmenter, size: tuple[int, int]) -> None:
        super().__init__()
        self.video = video
        *_, layer4, dec = video.static.cell_inputs
        for name, spec in (("layer4", layer4), ("dec", dec)):
            height, width = (-(-side // spec.stride) for side in size)
            self.register_buffer(name, torch.rand(1, spec.channels, height, width))

    def forward(self, image: Tensor) -> Tensor:
        logits, _ = self.video.step(State(self.layer4, self.dec), image)
        return logits
