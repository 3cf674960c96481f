"""Cost of each operation beside a plain 3x3 convolution: ``python benchmarks/ops.py [--json]``.

Forward and backward with the gradients of all inputs and parameters, float32, channels-last, one thread. All
rows run once a round, interleaved, so that a slow moment of the machine meets every row; the time is the
thread's own (waiting for a busy core is not counted). A row's ratio is the median over rounds of its time
over the convolution's in the same round; ``best`` compares the fastest rounds of both, nearest to an idle
machine.

Below the table, how many times faster the aggregations of the dynamic cell are than as appendix A writes them
(:mod:`appendix_a`), by the median over rounds and by ``best``.

Bound of the modulated deformable 3x3 convolution (offset and mask given): 3.5, goal 3.0, by ``best``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from appendix_a import AS_WRITTEN
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.ops.deform_conv import DeformConv2d, _by_autograd, _by_grid_sample, modulated_deform_conv2d
from nasperc.ops.depthwise import DepthwiseConv2d
from nasperc.ops.pointwise import PointwiseConv2d
from nasperc.ops.resize import resize_to
from search_spaces.cell_aggregations import CELL_AGGREGATION_LABELS, CELL_AGGREGATIONS
from search_spaces.operations import GroupNorm32, build_operation

BOUND, GOAL = 3.5, 3.0
BASELINE, DEFORMABLE = "conv 3x3", "deformable 3x3"
AGGREGATION, WRITTEN = "aggregation ", "  as appendix A writes it: "

Round = Callable[[], object]


def forward_backward(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], *modules: nn.Module
) -> Round:
    """One forward and backward pass of ``function(*inputs)`` as a call without arguments."""
    wanted = [t for t in inputs if t.requires_grad] + [p for m in modules for p in m.parameters()]
    grad = torch.randn_like(function(*inputs))
    return lambda: torch.autograd.grad(function(*inputs), wanted, grad)


def cases(batch: int, channels: int, size: int) -> dict[str, Round]:
    """Every row of the table."""

    def draw(channels: int, size: int = size) -> Tensor:
        x = torch.randn(batch, channels, size, size)
        return x.contiguous(memory_format=torch.channels_last).requires_grad_()

    def module(layer: nn.Module, *inputs: Tensor) -> Round:
        layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return forward_backward(layer, inputs or (x,), layer)

    def contiguous(layer: nn.Module) -> Round:
        def there_and_back(x: Tensor) -> Tensor:
            return layer(x.contiguous()).contiguous(memory_format=torch.channels_last)

        return forward_backward(there_and_back, (x,), layer)

    x, y, small = draw(channels), draw(channels), draw(channels, size // 2)
    offset, mask = draw(2 * 2 * 9), torch.rand(batch, 2 * 9, size, size)
    mask = mask.contiguous(memory_format=torch.channels_last).requires_grad_()
    deformable = DeformConv2d(channels, channels)
    kernel = (deformable.weight, deformable.bias)
    rows = {
        BASELINE: module(nn.Conv2d(channels, channels, 3, padding=1)),
        DEFORMABLE: forward_backward(modulated_deform_conv2d, (x, offset, mask, *kernel)),
        "  by autograd, as on CUDA": forward_backward(
            partial(_by_autograd, stride=1, padding=1, dilation=1), (x, offset, mask, *kernel)
        ),
        "  by grid_sample": forward_backward(
            partial(_by_grid_sample, stride=1, padding=1, dilation=1), (x, offset, mask, *kernel)
        ),
        "  module with its offset convolution": module(deformable),
        "conv 1x1": module(PointwiseConv2d(channels, channels, bias=False)),
        "  nn.Conv2d": module(nn.Conv2d(channels, channels, 1, bias=False)),
    }
    for kernel_size, dilation in ((3, 1), (3, 3), (5, 6)):
        plain = partial(
            nn.Conv2d,
            channels,
            channels,
            kernel_size,
            padding=dilation * (kernel_size - 1) // 2,
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        name = f"depthwise {kernel_size}x{kernel_size}" + (f" dil {dilation}" if dilation > 1 else "")
        rows[name] = module(DepthwiseConv2d(channels, kernel_size, dilation))
        if dilation > 1:
            rows[f"  nn.Conv2d ({name})"] = module(plain())
        rows[f"  contiguous and back ({name})"] = contiguous(plain())
    rows |= {
        "BN, ReLU": module(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())),
        "GN(32), ReLU": module(nn.Sequential(GroupNorm32(channels), nn.ReLU())),
        "bilinear x2": forward_backward(lambda small: resize_to(small, (size, size)), (small,)),
        "  after contiguous": forward_backward(
            lambda small: F.interpolate(small.contiguous(), scale_factor=2, mode="bilinear"), (small,)
        ),
        "global pooling, 1x1, BN, ReLU": module(build_operation("gap", channels, "batch")),
        **aggregations(x, y),
    }
    for norm in ("batch", "group"):
        for name in ("sep3x3", "sep3x3_dil3", "sep5x5_dil6", "deform3x3", "conv1x1", "conv3x3"):
            if norm == "group" or name.startswith(("sep", "deform")):
                rows[f"layer {name}, {norm} norm"] = module(build_operation(name, channels, norm))
    return rows


def aggregations(x: Tensor, y: Tensor) -> dict[str, Round]:
    """The aggregations, and below each the same layers as appendix A writes them."""
    rows = {}
    for name, kind in zip(CELL_AGGREGATION_LABELS, CELL_AGGREGATIONS, strict=True):
        ours = kind(x.shape[1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rows[f"{AGGREGATION}{name}"] = forward_backward(ours, (x, y), ours)
        if kind in AS_WRITTEN:
            rows[f"{WRITTEN}{name}"] = forward_backward(partial(AS_WRITTEN[kind], ours), (x, y), ours)
    return rows


def measure(rows: dict[str, Round], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every row in every round."""
    for run in rows.values():
        for _ in range(2):
            run()
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            start = time.thread_time()
            run()
            times[name].append((time.thread_time() - start) * 1e3)
    return times


def summarise(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and best milliseconds of each row, and its two ratios to the convolution."""
    baseline = times[BASELINE]
    return {
        name: {
            "ms": statistics.median(values),
            "best_ms": min(values),
            "ratio": statistics.median(v / b for v, b in zip(values, baseline, strict=True)),
            "best_ratio": min(values) / min(baseline),
        }
        for name, values in times.items()
    }


def speedups(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """How many times faster each aggregation is than as appendix A writes it."""
    found = {}
    for row, slow in times.items():
        if row.startswith(WRITTEN):
            name = row.removeprefix(WRITTEN)
            fast = times[f"{AGGREGATION}{name}"]
            median = statistics.median(s / f for s, f in zip(slow, fast, strict=True))
            found[name] = {"ratio": median, "best_ratio": min(slow) / min(fast)}
    return found


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=48, help="height and width")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = cases(arguments.batch, arguments.channels, arguments.size)
    times = measure(rows, arguments.rounds)
    result, faster = summarise(times), speedups(times)
    deformable = result[DEFORMABLE]["best_ratio"]
    if arguments.json:
        values = {
            "bound": BOUND,
            "goal": GOAL,
            "settings": vars(arguments),
            "rows": result,
            "speedups": faster,
        }
        print(json.dumps(values, indent=2))
        return
    title = f"forward + backward, batch {arguments.batch}, {arguments.channels} channels, {arguments.size} px"
    table = Table("operation", title=title)
    for column in ("ms", "best ms", "ratio", "best"):
        table.add_column(column, justify="right")
    for name, row in result.items():
        table.add_row(
            name,
            f"{row['ms']:.2f}",
            f"{row['best_ms']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['best_ratio']:.2f}",
        )
    Console(width=100).print(table)
    verdicts = (
        f"{kind} {limit}: {'held' if deformable <= limit else 'missed'}"
        for kind, limit in (("bound", BOUND), ("goal", GOAL))
    )
    print(f"{DEFORMABLE}: {deformable:.2f} plain convolutions ({', '.join(verdicts)})")
    for name, row in faster.items():
        print(
            f"{name}: {row['ratio']:.2f} times as fast as appendix A writes it (best {row['best_ratio']:.2f})"
        )


if __name__ == "__main__":
    main()
