"""Measured latency of a network."""

from __future__ import annotations

import copy
import statistics
import time
from typing import NamedTuple

import torch
from torch import nn


class Latency(NamedTuple):
    """Seconds an image over ``runs`` runs, on ``device`` (``cuda``, or ``cpu`` with its number of threads)."""

    median_s: float
    fastest_s: float
    slowest_s: float
    runs: int
    device: str


def measure_latency(
    model: nn.Module,
    size: tuple[int, int],
    *,
    device: torch.device | None = None,
    runs: int = 10,
    warmup: int = 3,
) -> Latency:
    """Time ``model(images)`` on one image of ``size`` (H, W), channels-last, in evaluation mode.

    Decoding and suppression are not part of it: their time depends on what is in the image.

    Args:
        model: left alone; a copy of it runs.
        size: in pixels.
        device: None: CUDA where there is one, else the CPU.
        runs: that are timed.
        warmup: runs before them.
    """
    device = device or _default_device()
    network = copy.deepcopy(model).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(warmup + runs):
            _synchronise(device)
            start = time.perf_counter()
            network(images)
            _synchronise(device)
            seconds.append(time.perf_counter() - start)
    timed = seconds[warmup:]
    return Latency(statistics.median(timed), min(timed), max(timed), runs, device_name(device))


def device_name(device: torch.device | None = None) -> str:
    """What :class:`Latency` calls the device; None: the one that is measured on by default."""
    device = device or _default_device()
    return device.type if device.type != "cpu" else f"cpu, {torch.get_num_threads()} threads"


def _default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
