"""Cost of what instance segmentation does with boxes: ``python benchmarks/roi_ops.py [--json]``.

RoIAlign (sampling ratio 1) and RoIPool of 100 boxes in an image of 800 x 1067 pixels, over a plain gather of as many
values, one cell of the map for each value of the result (``index_select``); and how many times faster RoIAlign is than
the obvious way, ``grid_sample`` box by box. Pasting of 100 masks of 56 x 56 into that image, over the obvious way,
``grid_sample`` on whole images.

Boxes have COCO's sizes: of its objects 41 % are below 32 x 32 pixels and 24 % above 96 x 96, on images whose shorter
side is 480. Values alone, float32, channels-last, one thread. All rows run once a round, interleaved, so that a slow
moment of the machine meets every row; the time is the thread's own (waiting for a busy core is not counted). A row's
ratio is the median over rounds of its time over its group's first row's in the same round; ``best`` compares the
fastest rounds of both. Freed memory is kept, as the commands keep it.

Bounds, by ``best``: RoIAlign at most 5 gathers, and no slower than the obvious way; pasting at least 5 times as fast
as the obvious way.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from nasperc.ops.bilinear_rows import channel_rows
from nasperc.ops.paste_masks import paste, paste_to_rle
from nasperc.ops.roi_align import roi_align
from nasperc.ops.roi_pool import roi_pool
from nasperc.training.freed_memory import keep_freed_memory

IMAGE = (800, 1067)
MAPS = ((4, 4), (256, 8))  # channels, stride
SIDES = (14, 56)
GATHER, ALIGN, POOL, OBVIOUS = "gather", "RoIAlign", "RoIPool", "grid_sample box by box"
PASTING, WHOLE = "pasting masks of 56x56", "grid_sample on whole images"
GATHERS, FASTER = 5.0, 5.0

Round = Callable[[], object]


def coco_boxes(count: int, size: tuple[int, int]) -> Tensor:
    """(``count``, 4) inside of an image of ``size`` (H, W): the square roots of their areas are log-normal."""
    small, large = (statistics.NormalDist().inv_cdf(share) for share in (0.41, 1 - 0.24))
    spread = math.log(96 / 32) / (large - small)
    middle = math.log(32 / 480 * min(size)) - small * spread
    side = (middle + spread * torch.randn(count)).exp()
    aspect = (0.4 * torch.randn(count)).exp()
    image = torch.tensor((size[1], size[0]))
    sides = torch.minimum(torch.stack((side * aspect, side / aspect), 1), image)
    corner = torch.rand(count, 2) * (image - sides)
    return torch.cat((corner, corner + sides), 1)


def nearest_cells(boxes: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """Of a map of ``size`` (H, W) the cells that ``side`` x ``side`` samples in each of ``boxes`` (R, 4) fall into, as
    rows of its table."""
    place = (torch.arange(side)[:, None] + 0.5) / side
    x, y = (boxes[:, None, :2] + (boxes[:, 2:] - boxes[:, :2])[:, None] * place).long().unbind(2)
    return (y.clamp(max=size[0] - 1) * size[1])[:, :, None].add(x.clamp(max=size[1] - 1)[:, None]).flatten()


def obvious_roi_align(features: Tensor, boxes: Tensor, side: int, scale: float) -> Tensor:
    """RoIAlign with sampling ratio 1 inside of one map (1, C, H, W)."""
    size = features.new_tensor((features.shape[3], features.shape[2]))
    place = (torch.arange(side) + 0.5) / side
    crops = []
    for box in boxes * scale:
        x, y = (2 * (box[:2, None] + (box[2:] - box[:2])[:, None] * place) / size[:, None] - 1).unbind(0)
        grid = torch.stack((x.expand(side, side), y[:, None].expand(side, side)), -1)
        crops.append(F.grid_sample(features, grid[None], padding_mode="border", align_corners=False))
    return torch.cat(crops)


def obvious_paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Every pixel of every image, mask by mask."""
    height, width = size
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    images = torch.empty(len(masks), height, width, dtype=torch.bool)
    for image, mask, (x1, y1, x2, y2) in zip(images, masks, boxes.tolist(), strict=True):
        columns, rows = (x - x1) / (x2 - x1) * 2 - 1, (y - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), -1)
        torch.ge(F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0], 0.5, out=image)
    return images


def obvious_rle(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[object]:
    """The run lengths of whole images."""
    images = obvious_paste(masks, boxes, size).numpy().astype(np.uint8)
    return [coco_mask.encode(np.asfortranarray(image)) for image in images]


def cases(boxes: Tensor) -> dict[str, dict[str, Round]]:
    """The rows of each group; the first is what the others are compared with."""
    groups: dict[str, dict[str, Round]] = {}
    index = torch.zeros(len(boxes), dtype=torch.int64)
    for channels, stride in MAPS:
        height, width = (-(-side // stride) for side in IMAGE)
        features = torch.randn(1, channels, height, width).contiguous(memory_format=torch.channels_last)
        table = channel_rows(features)
        for side in SIDES:
            size, scale = (side, side), 1 / stride
            rows = nearest_cells(boxes * scale, side, (height, width))
            groups[f"{channels} channels at 1/{stride}, {side}x{side}"] = {
                GATHER: partial(table.index_select, 0, rows),
                ALIGN: partial(roi_align, features, boxes, index, size, scale, 1),
                OBVIOUS: partial(obvious_roi_align, features, boxes, side, scale),
                POOL: partial(roi_pool, features, boxes, index, size, scale),
            }
    masks = F.interpolate(torch.rand(len(boxes), 1, 7, 7), size=(56, 56), mode="bilinear")[:, 0]
    groups[PASTING] = {
        WHOLE: partial(obvious_paste, masks, boxes, IMAGE),
        "paste": partial(paste, masks, boxes, IMAGE),
    }
    groups[f"{PASTING}, to run lengths"] = {
        WHOLE: partial(obvious_rle, masks, boxes, IMAGE),
        "paste_to_rle": partial(paste_to_rle, masks, boxes, IMAGE),
    }
    return groups


def measure(groups: dict[str, dict[str, Round]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of every row in every round."""
    times: dict[str, dict[str, list[float]]] = {
        group: {name: [] for name in rows} for group, rows in groups.items()
    }
    # The first one warms up.
    for _ in range(rounds + 1):
        for group, rows in groups.items():
            for name, run in rows.items():
                start = time.thread_time()
                run()
                times[group][name].append((time.thread_time() - start) * 1e3)
    return {group: {name: each[1:] for name, each in rows.items()} for group, rows in times.items()}


def summarise(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and best milliseconds of each row, and its two ratios to the first one."""
    baseline = next(iter(times.values()))
    return {
        name: {
            "ms": statistics.median(values),
            "best_ms": min(values),
            "ratio": statistics.median(v / b for v, b in zip(values, baseline, strict=True)),
            "best_ratio": min(values) / min(baseline),
        }
        for name, values in times.items()
    }


def verdicts(results: dict[str, dict[str, dict[str, float]]]) -> dict[str, bool]:
    """Whether each bound holds in all groups."""
    aligned = [rows for rows in results.values() if ALIGN in rows]
    pasted = [
        row["best_ratio"] for rows in results.values() if WHOLE in rows for row in list(rows.values())[1:]
    ]
    return {
        f"RoIAlign at most {GATHERS:g} gathers": max(rows[ALIGN]["best_ratio"] for rows in aligned)
        <= GATHERS,
        f"RoIAlign no slower than {OBVIOUS}": all(
            rows[ALIGN]["best_ms"] <= rows[OBVIOUS]["best_ms"] for rows in aligned
        ),
        f"pasting at least {FASTER:g} times as fast as {WHOLE}": max(pasted) <= 1 / FASTER,
    }


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    groups = cases(coco_boxes(arguments.boxes, IMAGE))
    results = {group: summarise(rows) for group, rows in measure(groups, arguments.rounds).items()}
    held = verdicts(results)
    if arguments.json:
        print(json.dumps({"settings": vars(arguments), "groups": results, "held": held}, indent=2))
        return
    table = Table("operation", title=f"{arguments.boxes} boxes in {IMAGE[0]} x {IMAGE[1]} pixels")
    for column in ("ms", "best ms", "ratio", "best"):
        table.add_column(column, justify="right")
    for group, rows in results.items():
        table.add_section()
        table.add_row(group)
        for name, row in rows.items():
            table.add_row(
                f"  {name}",
                f"{row['ms']:.2f}",
                f"{row['best_ms']:.2f}",
                f"{row['ratio']:.2f}",
                f"{row['best_ratio']:.2f}",
            )
    Console(width=100).print(table)
    for bound, holds in held.items():
        print(f"{bound}: {'held' if holds else 'missed'}")


if __name__ == "__main__":
    main()
