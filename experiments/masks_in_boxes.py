"""How good are a segmenter's masks where the boxes are given? Less noisy than AP, and paired by object.

    python experiments/masks_in_boxes.py --data DIR --group found A.pt B.pt --group fpn C.pt

Each object of the split that is no crowd gets a mask inside of its annotated box, from the most central of the
locations that belong to it in training; the IoU with its annotated mask is taken at the image's own size. Checkpoints
of a group are seeds of one network: the IoU of an object is the mean over them. Groups are compared object by object
with the first one: mean of the differences, and its 95 % interval over the objects.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from nasperc.data.batch import collate
from nasperc.data.dataset import ONE_CLASS, DetectionDataset
from nasperc.data.formats import open_dataset
from nasperc.data.transforms import Resize
from nasperc.models.instances import Instances
from nasperc.ops.paste_masks import paste_to_rle
from nasperc.tasks.instances.trained import TrainedInstances
from nasperc.tasks.lookup import load_trained


@torch.no_grad()
def ious(trained: TrainedInstances, dataset: DetectionDataset, index: int) -> np.ndarray:
    """IoU (M,) of every object of an image that is no crowd; NaN where no location belongs to it."""
    settings, model = trained.training, trained.model
    sample = dataset[index]
    short = settings.test_short_side
    resized = Resize(short, settings.max_long_side).apply(sample, short)
    batch = collate([resized], trained.normalisation, model.divisor)
    objects, whole = _objects(resized.instances), _objects(sample.instances)
    found = np.full(len(whole), np.nan)
    if not len(objects):
        return found
    output = model(batch.images)
    height, width = batch.images.shape[-2:]
    sizes = [(-(-height // stride), -(-width // stride)) for stride in model.strides]
    targets: Any = model.targets(
        objects.with_fields(crowd=torch.zeros(len(objects), dtype=torch.bool)), sizes
    )
    owner, centerness = targets.detection.owner, targets.detection.centerness
    owned = [number for number in range(len(objects)) if (owner == number).any()]
    if not owned:
        return found
    central = torch.stack([centerness.masked_fill(owner != number, -1).argmax() for number in owned])
    masks = model.masks_at(output, objects.boxes[owned], torch.zeros_like(central), central)
    pasted = paste_to_rle(masks, whole.boxes[owned], sample.meta.size)
    for number, mask in zip(owned, pasted, strict=True):
        bitmap = whole.masks[torch.tensor([number])].bitmaps()[0].numpy()  # type: ignore[index, union-attr]
        truth = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
        found[number] = coco_mask.iou([mask], [truth], [0])[0, 0]
    return found


def _objects(instances: Instances) -> Instances:
    assert instances.crowd is not None
    return instances[~instances.crowd]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--format", default="auto")
    parser.add_argument("--group", action="append", nargs="+", required=True, metavar=("NAME", "CHECKPOINT"))
    parser.add_argument("--out", type=Path, help="JSON with the IoU of every object")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    values: dict[str, np.ndarray] = {}
    for name, *paths in arguments.group:
        rows = []
        for path in paths:
            trained = load_trained(Path(path))
            assert isinstance(trained, TrainedInstances), path
            dataset = open_dataset(
                arguments.data,
                arguments.split,
                format=arguments.format,
                classes=trained.classes,
                rules=trained.images,
                masks=True,
                one_class=trained.classes == ONE_CLASS,
            )
            rows.append(np.concatenate([ious(trained, dataset, index) for index in range(len(dataset))]))
            print(
                f"{name}: {path}: mean IoU {np.nanmean(rows[-1]):.4f} of {np.isfinite(rows[-1]).sum()} objects",
                flush=True,
            )
        values[name] = np.stack(rows)
    first = next(iter(values))
    for name, rows in values.items():
        means = np.nanmean(rows, axis=1)
        spread = f", deviation between seeds {means.std(ddof=1):.4f}" if len(means) > 1 else ""
        line = f"{name}: {means.mean():.4f}{spread}"
        if name != first:
            difference = rows.mean(axis=0) - values[first].mean(axis=0)
            difference = difference[np.isfinite(difference)]
            half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
            line += f"; minus {first}: {difference.mean():+.4f} +- {half:.4f} over {len(difference)} objects"
        print(line)
    if arguments.out is not None:
        plain = {
            name: [[None if np.isnan(v) else round(v, 4) for v in row] for row in rows.tolist()]
            for name, rows in values.items()
        }
        arguments.out.write_text(json.dumps(plain) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
