"""A network overfits real images: the eight training images with the lowest ids that have at most 12 objects.

    python experiments/overfit.py --data DIR --weights FILE [--recipe overfit_blendmask] [--out DIR]

DIR is a COCO or VOC data set (with masks for instance segmenters, panoptic for overfit_blendmask_panoptic), FILE
MobileNetV2 weights. What is wrong in targets, losses, decoding or evaluation shows here as a bound that is missed on
the very images trained on: AP50 >= 0.95, and AP >= 0.75 of FCOS's boxes, AP >= 0.80 of the masks; PQ >= 0.80 of a
panoptic network, of things and of stuff.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from nasperc.assembly.datasets import open_panoptic_split, open_split
from nasperc.assembly.detector import Baseline, build_detector
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import get_normalisation
from nasperc.data.panoptic import PanopticDataset
from nasperc.evaluation.coco_ap import coco_ap
from nasperc.models.detector import Detector
from nasperc.models.panoptic.segmenter import PanopticSegmenter
from nasperc.recipe.reading import load_recipe
from nasperc.tasks.detection.trained import describe
from nasperc.tasks.instances.models import InstancesRecipe, build_segmenter
from nasperc.tasks.instances.tables import mask_metrics
from nasperc.tasks.lookup import recipe_task
from nasperc.tasks.panoptic.models import PanopticRecipe, build_panoptic
from nasperc.training.detect import detect_dataset
from nasperc.training.detection import train
from nasperc.training.panoptic import panoptic_losses, segment_dataset

IMAGES, OBJECTS = 8, 12
DECODER = Baseline(fpn_width=128, head_width=128, depth=2)
BOUNDS = {
    "detection": {"ap50": 0.95, "ap": 0.75},
    "instances": {"ap50": 0.95, "ap": 0.8},
    "panoptic": {"pq": 0.8, "pq_things": 0.8, "pq_stuff": 0.8},
}


def easy_images(dataset: DetectionDataset) -> DetectionDataset:
    """The images with the lowest ids that have one to ``OBJECTS`` objects."""
    by_id = sorted(range(len(dataset)), key=lambda index: dataset.records[index].image_id)
    few = [index for index in by_id if 1 <= len(dataset.records[index].boxes) <= OBJECTS]
    return dataset.subset(few[:IMAGES])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--normalisation", default="tf", help="what the weights expect")
    parser.add_argument("--recipe", default="overfit")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("overfit"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    backbone = {"weights": str(arguments.weights), "normalisation": arguments.normalisation}
    overrides = {"data": {"path": str(arguments.data)}, "model": {"backbone": backbone}}
    recipe = load_recipe(arguments.recipe, [overrides], arguments.set)
    task = recipe_task(recipe).name
    masks = task == "instances"
    dataset = easy_images(
        open_panoptic_split(recipe.data, "train", arguments.out)
        if task == "panoptic"
        else open_split(recipe.data, "train", arguments.out, masks=masks)
    )
    names = ", ".join(record.file.name for record in dataset.records)
    print(f"{len(dataset)} images, {sum(len(r.boxes) for r in dataset.records)} objects: {names}")

    torch.manual_seed(recipe.seed)
    model: Detector
    if recipe.task is not None and isinstance(dataset, PanopticDataset):
        counts = len(dataset.panoptic.things), len(dataset.panoptic.stuff)
        model = build_panoptic(
            recipe.model, PanopticRecipe.model_validate(recipe.task.options), DECODER, *counts
        )
    elif recipe.task is not None and masks:
        options = InstancesRecipe.model_validate(recipe.task.options)
        model = build_segmenter(recipe.model, options, DECODER, len(dataset.classes))
    else:
        model = build_detector(recipe.model, DECODER, len(dataset.classes))
    normalisation = get_normalisation(recipe.model.backbone.input_normalisation())
    rows: list[dict[str, float]] = []

    def record(step: int, terms: dict[str, float]) -> None:
        rows.append({"iteration": step, **terms})
        if step % 50 == 0:
            mean = np.mean([sum(row.values()) - row["iteration"] for row in rows[-50:]])
            print(f"iteration {step}/{recipe.fulltrain.iterations}  loss {mean:.3f}", flush=True)

    arguments.out.mkdir(parents=True, exist_ok=True)
    result = train(
        model,
        dataset,
        recipe.fulltrain,
        seed=recipe.seed,
        normalisation=normalisation,
        checkpoint=arguments.out / "checkpoint.pt",
        description=describe(recipe.model, DECODER, recipe.space),
        losses=panoptic_losses if task == "panoptic" else None,
        on_step=record,
        resume=False,
    )
    settings = recipe.fulltrain
    sides = settings.test_short_side, settings.max_long_side
    if isinstance(dataset, PanopticDataset) and isinstance(model, PanopticSegmenter):
        evaluation = segment_dataset(model, dataset, normalisation, *sides)
        metrics = evaluation.metrics(dataset.panoptic.names).as_dict()
    else:
        found = detect_dataset(model, dataset, normalisation, *sides)
        truth = dataset.coco_ground_truth()
        metrics = mask_metrics(dataset, found) if masks else coco_ap(truth, found).as_dict()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    content = {
        "metrics": metrics,
        "seconds": result.seconds,
        "cpu_minutes": (usage.ru_utime + usage.ru_stime) / 60,
        "recipe": recipe.to_dict(),
    }
    (arguments.out / "metrics.json").write_text(json.dumps(content, indent=1) + "\n")
    _write_losses(arguments.out, rows)
    print(f"{result.seconds / 60:.1f} minutes of training, {content['cpu_minutes']:.1f} CPU minutes in all")
    ok = True
    for name, bound in BOUNDS[task].items():
        value = metrics[name] or 0.0
        ok &= value >= bound
        print(f"{name:9} {value:.3f}  (bound {bound})  {'holds' if value >= bound else 'MISSED'}")
    return 0 if ok else 1


def _write_losses(out: Path, rows: list[dict[str, float]]) -> None:
    with (out / "losses.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name in rows[0].keys() - {"iteration"}:
        values = np.array([row[name] for row in rows])
        window = min(IMAGES * 4, len(values))
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(np.arange(window, len(values) + 1), smooth, label=name)
    axes.set(xlabel="iteration", ylabel="loss (mean over 4 epochs)", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out / "losses.png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
