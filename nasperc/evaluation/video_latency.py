"""Measured latency of a network along a video: the first frame, and every other one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nasperc.evaluation.latency import Latency, measure_latencies, measure_latency
from nasperc.models.segmenter import StaticSegmenter
from nasperc.models.video_segmenter import State, VideoSegmenter, VideoStart


class VideoLatency(NamedTuple):
    """``first``: of a video's first frame, where the static network runs; ``following``: of each other frame."""

    first: Latency
    following: Latency


class FollowingFrame(nn.Module):
    """A frame that follows another one: ``forward(image (1, 3, H, W)) -> logits``.

    Args:
        video: the network, in evaluation mode.
        size: (H, W) of the frames; a random one left the state.
    """

    def __init__(self, video: VideoSegmenter, size: tuple[int, int]) -> None:
        super().__init__()
        self.video = video
        device = next(video.parameters()).device
        with torch.no_grad():
            _, state = video.start(torch.rand(1, 3, *size, device=device))
        self.register_buffer("layer4", state.layer4)
        self.register_buffer("dec", state.dec)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (1, K, H / 8, W / 8)."""
        return self.video.step(State(self.layer4, self.dec), image)[0]  # type: ignore[arg-type]


def measure_video_latency(
    model: VideoSegmenter | StaticSegmenter,
    size: tuple[int, int],
    *,
    device: torch.device | None = None,
    runs: int = 10,
    warmup: int = 3,
) -> VideoLatency:
    """As :func:`measure_latencies`, of networks to logits; of a per-frame network both are the same measurement.

    Args:
        model: in evaluation mode.
        size: (H, W) of the frames in pixels.
        device: None: CUDA where there is one, else the CPU.
        runs: that are timed.
        warmup: runs before them.
    """
    if isinstance(model, StaticSegmenter):
        alone = measure_latency(model, size, device=device, runs=runs, warmup=warmup)
        return VideoLatency(alone, alone)
    both = [VideoStart(model), FollowingFrame(model, size)]
    return VideoLatency(*measure_latencies(both, size, device=device, runs=runs, warmup=warmup))
