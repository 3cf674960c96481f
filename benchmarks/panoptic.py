"""What is done for every panoptic image, against the obvious way to do it: CPU time on one thread.

    python benchmarks/panoptic.py --data DIR [--split val] [--format auto]

DIR is a panoptic data set. PQ by one count of pairs is compared with masks in a loop, on the truth moved by some pixels
and with other classes here and there, and must give the same numbers; logits that are interpolated once with
detectron2's two interpolations, by way of the resized image; the loss of logits with a plane for each class with that
of channels-last ones. The other rows have nothing beside them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.data.panoptic_formats import open_panoptic
from nasperc.evaluation.pq import PanopticEvaluation
from nasperc.models.instances import Instances
from nasperc.models.panoptic.merge import MergeRecipe, merge_instances
from nasperc.models.panoptic.pixel_classes import pixel_classes, pixel_loss
from nasperc.models.panoptic.segmentation import PanopticSegmentation

IMAGES, RUNS = 20, 5
# A COCO image, and the same as a detector sees it.
SIZE, SEEN, STRIDE, CLASSES = (480, 640), (800, 1067), 4, 54


def seconds(do: Callable[[], Any], runs: int = RUNS) -> float:
    """CPU time of a call, the fastest of some."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        do()
        times.append(time.process_time() - start)
    return min(times)


def moved(truth: PanopticSegmentation, generator: torch.Generator, classes: int) -> PanopticSegmentation:
    """A prediction that is right for the most part."""
    shift = torch.randint(-25, 26, (2,), generator=generator).tolist()
    other = torch.randint(0, classes, truth.labels.shape, generator=generator)
    wrong = torch.rand(len(truth), generator=generator) < 0.2
    return PanopticSegmentation(truth.map.roll(shift, (0, 1)), truth.labels.where(~wrong, other))


def by_masks(prediction: PanopticSegmentation, truth: PanopticSegmentation, classes: int) -> Tensor:
    """(4, classes): sum of IoU, matches, false alarms, misses; a mask a segment, every pair looked at."""
    sums = torch.zeros(4, classes, dtype=torch.float64)
    void = truth.map == 0
    assert truth.crowd is not None
    masks = [prediction.map == k + 1 for k in range(len(prediction))]
    matched: set[int] = set()
    for k, (label, crowd) in enumerate(zip(truth.labels.tolist(), truth.crowd.tolist(), strict=True)):
        shape = truth.map == k + 1
        for j, mask in enumerate(masks):
            union = int((shape | (mask & ~void)).sum())
            iou = int((shape & mask).sum()) / union if union else 0.0
            if not crowd and label == prediction.labels[j] and iou > 0.5:
                sums[:2, label] += torch.tensor([iou, 1.0])
                matched.add(j)
                break
        else:
            sums[3, label] += not crowd
    for j, mask in enumerate(masks):
        label = int(prediction.labels[j])
        ignored = void.clone()
        for k in (truth.crowd & (truth.labels == label)).nonzero().flatten().tolist():
            ignored |= truth.map == k + 1
        if j not in matched and mask.any() and not 2 * int((mask & ignored).sum()) > int(mask.sum()):
            sums[2, label] += 1
    return sums


def twice(logits: Tensor) -> Tensor:
    """Classes of pixels by way of the resized image."""
    large = F.interpolate(logits[None], scale_factor=STRIDE, mode="bilinear")[..., : SEEN[0], : SEEN[1]]
    return F.interpolate(large, SIZE, mode="bilinear")[0].argmax(0)


def plain_loss(logits: Tensor, target: Tensor) -> Tensor:
    large = F.interpolate(logits, scale_factor=STRIDE, mode="bilinear")
    return F.cross_entropy(large, target, ignore_index=255)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--format", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    dataset = open_panoptic(arguments.data, arguments.split, format=arguments.format)
    things, stuff = len(dataset.panoptic.things), len(dataset.panoptic.stuff)
    classes, count = things + stuff, min(IMAGES, len(dataset))
    reading = seconds(lambda: [dataset[index] for index in range(count)], 2) / count
    truths = [dataset.truth(index, dataset[index]) for index in range(count)]
    pairs = [(moved(truth, generator, classes), truth) for truth in truths]

    def counted() -> PanopticEvaluation:
        evaluation = PanopticEvaluation(things, stuff)
        for pair in pairs:
            evaluation.add(*pair)
        return evaluation

    slow = torch.stack([by_masks(*pair, classes) for pair in pairs]).sum(0)
    same = torch.allclose(counted().counts, slow)
    fast_pq, slow_pq = (
        seconds(counted) / count,
        seconds(lambda: [by_masks(*pair, classes) for pair in pairs], 1) / count,
    )
    logits = torch.randn(CLASSES, SEEN[0] // STRIDE, -(-SEEN[1] // 32) * 32 // STRIDE, generator=generator)
    once, two = seconds(lambda: pixel_classes(logits, STRIDE, SEEN, SIZE)), seconds(lambda: twice(logits))
    batch = logits[None].contiguous(memory_format=torch.channels_last).requires_grad_()
    target = torch.randint(
        0, CLASSES, (1, *(STRIDE * side for side in batch.shape[-2:])), generator=generator
    )
    ours = seconds(lambda: pixel_loss(batch, target, STRIDE).backward())
    plain = seconds(lambda: plain_loss(batch, target).backward())
    corner = torch.rand(100, 2, generator=generator) * torch.tensor([0.8 * SIZE[1], 0.8 * SIZE[0]])
    boxes = torch.cat((corner, corner + torch.rand(100, 2, generator=generator) * 150), 1)
    found = Instances(
        boxes,
        torch.randint(0, 80, (100,), generator=generator),
        scores=torch.linspace(1, 0.2, 100),
        masks=torch.rand(100, 56, 56, generator=generator) * 0.5 + 0.4,
    )
    semantic = pixel_classes(logits, STRIDE, SEEN, SIZE)
    merging = seconds(lambda: merge_instances(found, semantic, 80, MergeRecipe()))
    rows = [
        (f"PQ of an image (masks in a loop: {'the same' if same else 'OTHER'} numbers)", fast_pq, slow_pq),
        ("classes of its pixels from logits at stride 4", once, two),
        ("loss and gradient of the logits of an image", ours, plain),
        ("merging 100 instances and stuff", merging, None),
        ("reading a sample", reading, None),
    ]
    for name, taken, other in rows:
        beside = "" if other is None else f", the obvious way {1e3 * other:.0f} ms: {other / taken:.1f} times"
        print(f"{name}: {1e3 * taken:.1f} ms{beside}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
