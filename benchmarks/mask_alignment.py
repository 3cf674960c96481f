"""How much of an object's mask survives the way to a target of R x R and back into the image.

    python benchmarks/mask_alignment.py --data DIR [--split train]

DIR is a data set with masks. Half a cell of misalignment hides from mask AP; what shows it is the share of objects
whose target, pasted back, has at least an IoU with their mask, averaged over the ten thresholds of COCO (0.50 to 0.95).
Bounds: 0.98 at R = 56, 0.95 at 28.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from nasperc.data.formats import open_dataset
from nasperc.data.sample import Sample
from nasperc.ops.paste_masks import paste

BOUNDS = {56: 0.98, 28: 0.95}
THRESHOLDS = torch.arange(0.5, 0.951, 0.05)


def ious(sample: Sample, side: int) -> torch.Tensor:
    """IoU (M,) of every object that is no crowd, between its mask and its pasted target."""
    objects = sample.instances
    assert objects.crowd is not None
    objects = objects[~objects.crowd]
    masks = objects.masks
    if not len(objects) or masks is None or isinstance(masks, torch.Tensor):
        return torch.zeros(0)
    target = masks.within(objects.boxes, side)
    pasted = paste(target.float(), objects.boxes, sample.meta.size)
    whole = masks.bitmaps()  # type: ignore[attr-defined]
    inside = (pasted & whole).flatten(1).sum(1)
    return inside / (pasted | whole).flatten(1).sum(1).clamp(min=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--format", default="auto")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, arguments.split, format=arguments.format, masks=True)
    samples = [dataset[index] for index in range(len(dataset))]
    ok = True
    for side, bound in BOUNDS.items():
        found = torch.cat([ious(sample, side) for sample in samples])
        share = (found[:, None] >= THRESHOLDS).float().mean().item()
        ok &= share >= bound
        verdict = "holds" if share >= bound else "MISSED"
        print(
            f"R = {side}: {len(found)} objects, {share:.4f} (bound {bound}: {verdict}), mean IoU {found.mean():.4f}"
        )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
