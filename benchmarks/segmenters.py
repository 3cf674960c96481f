"""Cost of instance segmentation: ``python benchmarks/segmenters.py [--profile] [--json]``.

Whole inference of one image (network, decoding, suppression, masks; pasting apart) at 1, 10 and 100 objects; beside it
the same detector with Mask R-CNN's mask head, and BlendMask with its top layer computed everywhere, as its public code
does. Then a step of training on two smaller images (``--step-size``: of the full size it takes half a minute), and what
of it is the making of mask targets. A model of the task ``instances`` is measured as soon as there is one.

Weights are random and find nothing. So the head computes all that it does, and is then taken to have predicted boxes of
COCO's sizes at every location, with so many candidates that suppression gets as many of each level as the preset lets
through, or thousands: more than of any picture. Of what is left the preset keeps exactly D. Objects of the training
are polygons of 32 points, also of COCO's sizes, 8 an image (COCO has 7.3).

Values alone but for the training, float32, channels-last, one thread and its own time (waiting for a busy core is not
counted). All rows run once a round, interleaved, so that a slow moment of the machine meets every row; a ratio is the
median over the rounds of the ratio within one. Freed memory is kept, as the commands keep it. GFLOPs are
multiply-accumulates of convolutions, of the blender all of them.

Bounds, at 800 x 1067: the blender at most 2 % of whole inference at 100 objects (thesis: 0.6 of 74 ms); 100 objects
within 10 % of one; decoding, suppression and pasting at most 10 % of inference; mask targets at most 5 % of a step.
What misses its bound is profiled with ``--profile``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above shows all.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.mask_rcnn_masks import MaskRCNNMasks
from benchmarks.planted_head import PlantedHead
from benchmarks.roi_ops import IMAGE
from benchmarks.segmenter_step import STEP_IMAGES, Step, padded
from benchmarks.thread_clock import milliseconds, timed
from nasperc.assembly.detector import Baseline
from nasperc.assembly.recipe import ModelRecipe
from nasperc.evaluation.cost import measure_cost
from nasperc.models.blendmask.blender import Blender
from nasperc.models.blendmask.top import TopLayer
from nasperc.models.fcos.decode import detect
from nasperc.models.instance_segmenter import InstanceSegmenter, WholeSegmenter
from nasperc.ops.paste_masks import paste
from nasperc.tasks.instances.models import MODELS, InstancesRecipe, build_segmenter
from nasperc.training.freed_memory import keep_freed_memory

CLASSES, COUNTS = 80, (1, 10, 100)
MOST = COUNTS[-1]
BLENDER, FLAT, AFTER, TARGETS = 0.02, 1.10, 0.10, 0.05
MASK_RCNN, EVERYWHERE = "mask head of Mask R-CNN", "top layer everywhere"
# What a model is made of that is measured by itself.
PARTS = {"blendmask": "blender"}

Size = tuple[int, int]


class Bound(NamedTuple):
    """``value`` at most ``limit``; ``about``: in words; ``prepare``: gives what is profiled where it is missed."""

    name: str
    value: float
    limit: float
    about: str
    prepare: Callable[[], Callable[[], object]]

    @property
    def held(self) -> bool:
        return self.value <= self.limit


class Case:
    """Whole inference of one model at D objects.

    Args:
        model: with a planted head, which several cases may share.
        image: (H, W), padded to what the model divides into.
        count: D.
        part: name of a module of the model whose time is measured within.
    """

    def __init__(self, model: InstanceSegmenter, image: Size, count: int, part: str | None) -> None:
        self.model, self.image, self.count = model, image, count
        self.part = None if part is None else model.get_submodule(part)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(1, 3, *padded(image, model.divisor), generator=generator)
        self.images = images.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Milliseconds of ``network``, of ``whole``, and of its parts."""
        self.model.head.detections(self.count)  # type: ignore[operator]
        with timed(self.part) as part:
            start = time.thread_time()
            output = self.model(self.images)
            network = time.thread_time()
            (found,) = self.model.detect(output, [self.image])
            end = time.thread_time()
        assert len(found) == self.count, f"{len(found)} objects instead of {self.count}"
        assert isinstance(found.masks, Tensor)
        detection = output.head.detection
        sizes, strides, preset = [self.image], self.model.strides, self.model.preset
        decoding = milliseconds(partial(detect, detection, strides, sizes, preset))
        assert found.location is not None
        places = (found.boxes, torch.zeros_like(found.location), found.location)
        masks = milliseconds(partial(self.model.masks_at, output, *places))
        pasting = milliseconds(partial(paste, found.masks, found.boxes, self.image))
        return {
            "network": (network - start) * 1e3,
            "whole": (end - start) * 1e3,
            "masks": masks,
            "decoding": decoding,
            "pasting": pasting,
            **({} if self.part is None else {"part": sum(part)}),
        }

    @torch.no_grad()
    def after_network(self) -> Callable[[], object]:
        """What comes after it, to be run by itself."""
        self.model.head.detections(self.count)  # type: ignore[operator]
        output = self.model(self.images)

        def run() -> None:
            (found,) = self.model.detect(output, [self.image])
            assert isinstance(found.masks, Tensor)
            paste(found.masks, found.boxes, self.image)

        return run

    def flops(self) -> int:
        """Multiply-accumulates of convolutions."""
        height, width = self.images.shape[-2:]
        return measure_cost(WholeSegmenter(self.model, self.count), (height, width)).flops


class Everywhere(nn.Module):
    """A top layer whose maps are all computed: ``forward`` as of ``top_layer``."""

    def __init__(self, top_layer: nn.Module) -> None:
        super().__init__()
        self.top_layer = top_layer

    def forward(self, output: Any) -> list[Tensor]:
        return list(self.top_layer(output))


def build(name: str, backbone: str) -> InstanceSegmenter:
    """A model of the task ``instances`` with its default recipe, or Mask R-CNN's mask head; random weights."""
    torch.manual_seed(0)
    recipe = ModelRecipe.model_validate({"backbone": {"name": backbone}})
    options = InstancesRecipe(model=name if name in MODELS else None)
    model = build_segmenter(recipe, options, Baseline(256, 256), CLASSES, load_weights=False)
    if name == MASK_RCNN:
        model = MaskRCNNMasks(model.backbone, model.neck, model.head)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def cases(names: list[str], backbone: str, image: Size) -> dict[str, dict[int, Case]]:
    """By model, and by D."""
    found: dict[str, dict[int, Case]] = {}
    for name in [*names, MASK_RCNN]:
        model = build(name, backbone).eval()
        model.head = PlantedHead(model.head, image)
        found[name] = {count: Case(model, image, count, PARTS.get(name)) for count in COUNTS}
        if (dense := everywhere(name, backbone)) is not None:
            dense.eval().head = model.head
            found[f"{name}, {EVERYWHERE}"] = {MOST: Case(dense, image, MOST, None)}
    return found


def everywhere(name: str, backbone: str) -> InstanceSegmenter | None:
    """The same model with a top layer whose maps are all computed; None where it has no such top layer."""
    model = build(name, backbone)
    top_layer = getattr(model, "top_layer", None)
    if not isinstance(top_layer, TopLayer):
        return None
    model.top_layer = Everywhere(top_layer)
    return model


def training(names: list[str], backbone: str, size: Size) -> dict[str, Step]:
    """By model."""
    found = {}
    for name in names:
        found[name] = Step(build(name, backbone), size)
        if (dense := everywhere(name, backbone)) is not None:
            found[f"{name}, {EVERYWHERE}"] = Step(dense, size)
    return found


def blender_flops(blender: Blender, instances: int) -> int:
    """Of the bases' four neighbours in every sample, of both products of the upsampling, and of the sum."""
    side, small, bases = blender.region, blender.attention, blender.bases
    return instances * bases * (4 * side**2 + side * small**2 + side**2 * small + side**2)


Times = dict[str, dict[str, list[float]]]


def measure(runs: dict[str, Callable[[], dict[str, float]]], rounds: int) -> Times:
    """Milliseconds by row and by what was measured of it, one a round; a first round warms up."""
    found: Times = {}
    for number in range(rounds + 1):
        for row, run in runs.items():
            for what, value in run().items():
                found.setdefault(row, {}).setdefault(what, []).extend([value] if number else [])
    return found


def ratio(over: list[float], under: list[float]) -> float:
    """The median over the rounds."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def main() -> None:
    """Print the tables and the bounds, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", action="append", choices=MODELS, help="repeatable; all of the task instances"
    )
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=_size, default=IMAGE, help="HxW of the image")
    parser.add_argument("--step-size", type=_size, default=(480, 640), help="HxW of the training's images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="what takes the time where a bound is missed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    names = arguments.model or list(MODELS)
    torch.manual_seed(0)
    inference = cases(names, arguments.backbone, arguments.size)
    steps = training(names, arguments.backbone, arguments.step_size)
    runs = {_row(name, count): case.run for name, by in inference.items() for count, case in by.items()}
    times = measure({**runs, **{name: step.run for name, step in steps.items()}}, arguments.rounds)
    bounds = [bound for name in names for bound in verdicts(name, times, inference[name], steps[name])]
    if arguments.json:
        flops = {
            _row(name, count): case.flops() for name, by in inference.items() for count, case in by.items()
        }
        kept = [bound._asdict() | {"held": bound.held} for bound in bounds]
        for each in kept:
            del each["prepare"]
        print(
            json.dumps({"settings": vars(arguments), "ms": times, "flops": flops, "bounds": kept}, indent=2)
        )
        return
    console = Console(width=110)
    console.print(_inference_table(arguments, inference, times))
    console.print(_step_table(arguments, list(steps), times))
    for bound in bounds:
        verdict = "held" if bound.held else "missed"
        if arguments.size != IMAGE:
            verdict = f"of {IMAGE[0]} x {IMAGE[1]} pixels"
        print(f"{bound.name}: {bound.about}; bound {bound.limit:g}: {verdict}")
        if arguments.profile and not bound.held:
            print(_profile(bound.prepare()))


def verdicts(name: str, times: Times, by_count: dict[int, Case], step: Step) -> list[Bound]:
    """Of one model."""
    one, most = times[_row(name, COUNTS[0])], times[_row(name, MOST)]
    whole, trained = most["whole"], times[name]
    bounds = []
    if (part := PARTS.get(name)) is not None:
        share = ratio(most["part"], whole)
        module = by_count[MOST].part
        assert isinstance(module, Blender)
        counted = f"{blender_flops(module, MOST) / 1e9:.3f} of {by_count[MOST].flops() / 1e9:.1f} GFLOPs"
        about = f"{_ms(most['part'])} of {_ms(whole)}, {share:.2%}; {counted}"
        bounds.append(
            Bound(
                f"{name}: the {part} at {MOST} objects", share, BLENDER, about, by_count[MOST].after_network
            )
        )
    flat = ratio(whole, one["whole"])
    after = [decoding + pasting for decoding, pasting in zip(most["decoding"], most["pasting"], strict=True)]
    shared = ratio(after, whole)
    targets = ratio(trained["targets"], trained["step"])
    return [
        *bounds,
        Bound(
            f"{name}: {MOST} objects over one",
            flat,
            FLAT,
            f"{_ms(whole)} over {_ms(one['whole'])}, {flat:.3f}",
            by_count[MOST].after_network,
        ),
        Bound(
            f"{name}: decoding, suppression and pasting of {MOST} objects",
            shared,
            AFTER,
            f"{_ms(most['decoding'])} and {_ms(most['pasting'])} of {_ms(whole)}, {shared:.2%}",
            by_count[MOST].after_network,
        ),
        Bound(
            f"{name}: mask targets",
            targets,
            TARGETS,
            f"{_ms(trained['targets'])} of {_ms(trained['step'])}, {targets:.2%}",
            lambda: step.targets,
        ),
    ]


def _inference_table(
    arguments: argparse.Namespace, inference: dict[str, dict[int, Case]], times: Times
) -> Table:
    height, width = arguments.size
    table = Table("model", title=f"Inference, {arguments.backbone}, {height} x {width}, ms")
    for column in ("objects", "GFLOPs", "network", "decoding", "masks", "whole", "over one", "pasting"):
        table.add_column(column, justify="right")
    for name, by_count in inference.items():
        table.add_section()
        first = times[_row(name, min(by_count))]["whole"]
        for count, case in by_count.items():
            found = times[_row(name, count)]
            cells = [
                f"{statistics.median(found[what]):.1f}" for what in ("network", "decoding", "masks", "whole")
            ]
            over = f"{ratio(found['whole'], first):.3f}"
            pasting = f"{statistics.median(found['pasting']):.1f}"
            label = name if count == min(by_count) else ""
            table.add_row(label, str(count), f"{case.flops() / 1e9:.2f}", *cells, over, pasting)
    return table


def _step_table(arguments: argparse.Namespace, names: list[str], times: Times) -> Table:
    height, width = arguments.step_size
    title = f"A step of training, {arguments.backbone}, {STEP_IMAGES} images of {height} x {width}, ms"
    table = Table("model", title=title, min_width=80)
    for column in ("step", "mask targets", "share"):
        table.add_column(column, justify="right")
    for name in names:
        step, targets = times[name]["step"], times[name]["targets"]
        values = f"{statistics.median(step):.1f}", f"{statistics.median(targets):.1f}"
        table.add_row(name, *values, f"{ratio(targets, step):.2%}")
    return table


def _profile(run: Callable[[], object]) -> str:
    """The operations that take most of it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    return profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40)


def _row(name: str, count: int) -> str:
    return f"{name}, {count} objects"


def _ms(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ms"


def _size(text: str) -> Size:
    height, width = (int(side) for side in text.split("x"))
    return height, width


if __name__ == "__main__":
    main()
