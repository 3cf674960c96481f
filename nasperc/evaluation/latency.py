"""Measured latency of networks: on one thread, in turns, with the load of the machine looked at."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from nasperc.evaluation.threads import threads

# Of every figure, wherever it was measured: workers have one each, and figures are compared.
THREADS = 1
# Who gets less of a core has others on it, who take caches and memory too.
TRUSTED_SHARE = 0.9

# Called with the share of the runs that are done.
OnRun = Callable[[float], None]


class Latency(NamedTuple):
    """Seconds an image over ``runs`` runs, on ``device`` (``cuda``, or ``cpu`` with its number of threads).

    On a CPU it is the thread's own time: waiting for a core that others use is not counted. ``threads``: as in the
    name; ``core_share``: what the thread had of a core in its runs. Both None on a GPU and in older files.
    """

    median_s: float
    fastest_s: float
    slowest_s: float
    runs: int
    device: str
    threads: int | None = None
    core_share: float | None = None

    @property
    def doubt(self) -> str | None:
        """Why the figure cannot be trusted; None: it can, as far as is known."""
        return doubt(self.core_share)


def doubt(core_share: float | None) -> str | None:
    """Why a figure that was measured with such a share of a core cannot be trusted."""
    if core_share is None or core_share >= TRUSTED_SHARE:
        return None
    return f"measured on a busy machine ({100 * core_share:.0f} % of a core)"


def measure_latency(
    model: nn.Module,
    size: tuple[int, int],
    *,
    device: torch.device | None = None,
    runs: int = 10,
    warmup: int = 3,
    on_run: OnRun | None = None,
) -> Latency:
    """As :func:`measure_latencies`, of one network."""
    return measure_latencies([model], size, device=device, runs=runs, warmup=warmup, on_run=on_run)[0]


def measure_latencies(
    models: Sequence[nn.Module],
    size: tuple[int, int],
    *,
    device: torch.device | None = None,
    runs: int = 10,
    warmup: int = 3,
    on_run: OnRun | None = None,
    copies: bool = True,
) -> list[Latency]:
    """Time each ``model(images)`` on one image of ``size`` (H, W), channels-last, in evaluation mode.

    All models run once a round, so that a slow moment of the machine meets every one. Decoding and suppression are
    not part of it: their time depends on what is in the image.

    Args:
        models: left alone; copies of them run.
        size: in pixels.
        device: None: CUDA where there is one, else the CPU.
        runs: rounds that are timed.
        warmup: rounds before them.
        on_run: told after every run.
        copies: False saves their memory: the models themselves run, and stay on the device in evaluation mode.
    """
    device = device or _default_device()
    networks = [(copy.deepcopy(model) if copies else model).eval() for model in models]
    networks = [network.to(device, memory_format=torch.channels_last) for network in networks]  # type: ignore[call-overload]
    images = torch.rand(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
    on_cpu = device.type == "cpu"
    own, elapsed = ([[0.0] * (warmup + runs) for _ in networks] for _ in range(2))
    with torch.no_grad(), threads(THREADS):
        for number in range(warmup + runs):
            for place, network in enumerate(networks):
                _synchronise(device)
                start, own_start = time.perf_counter(), time.thread_time()
                network(images)
                _synchronise(device)
                own[place][number] = time.thread_time() - own_start
                elapsed[place][number] = time.perf_counter() - start
                if on_run is not None:
                    on_run((number * len(networks) + place + 1) / ((warmup + runs) * len(networks)))
    found = []
    for own_s, elapsed_s in zip(own, elapsed, strict=True):
        timed = (own_s if on_cpu else elapsed_s)[warmup:]
        share = min(1.0, sum(own_s[warmup:]) / sum(elapsed_s[warmup:])) if on_cpu else None
        found.append(
            Latency(
                statistics.median(timed),
                min(timed),
                max(timed),
                runs,
                device_name(device),
                THREADS if on_cpu else None,
                share,
            )
        )
    return found


def device_name(device: torch.device | None = None) -> str:
    """What :class:`Latency` calls the device; None: the one that is measured on by default."""
    device = device or _default_device()
    return device.type if device.type != "cpu" else f"cpu, {THREADS} threads"


def _default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
