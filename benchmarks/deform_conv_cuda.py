"""Deformable convolution on CUDA against the CPU: ``python benchmarks/deform_conv_cuda.py [--json]``.

At whole offsets, where every layer starts, and at the numbers beside them bilinear interpolation has a kink: the table
shows for odd and even widths the largest differences of values and gradients, as shares of the largest value, and how
many gradients of offsets are those of the other side. Below it one training step of a searched detector (random
weights, one SGD step) on both: its losses, the gradients of its offsets' convolutions, the parameters after it; in
float64, since batch normalisation of small maps makes a thousandfold of float32's rounding.

On a machine without CUDA that is said, and the formulation for CUDA is compared with the fast path on the CPU.

Bound: no gradient of the other side; differences of rounding alone, 1e-4 of an operation, 1e-6 of a whole step.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nasperc.assembly.detector import Searched, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.batch import Batch
from nasperc.data.sample import Meta, Sample
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.models.detector import Detector
from nasperc.ops import deform_conv
from nasperc.ops.deform_conv import DeformConv2d, modulated_deform_conv2d
from nasperc.training.detection import detection_losses
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

WIDTHS = (5, 13, 48, 49, 100, 167)
OF_AN_OPERATION, OF_A_STEP = 1e-4, 1e-6
OTHER_SIDE = "other side"
NAMES = ("value", "x", "offset", "mask", "weight", "bias")
# Of every output's gradient: a whole cell's difference is far above, rounding far below.
_NOTICEABLE = 1e-3


@contextmanager
def elsewhere(device: torch.device) -> Iterator[None]:
    """What runs on ``device`` with the formulation for CUDA, even where it is the CPU."""
    applies = deform_conv._fast_path_applies
    if device.type == "cpu":
        deform_conv._fast_path_applies = lambda *_: False
    try:
        yield
    finally:
        deform_conv._fast_path_applies = applies


def offsets(kind: str, width: int) -> Tensor:
    """(1, 36, 7, ``width``) of one of the four kinds of offsets that are compared."""
    shape = (1, 36, 7, width)
    if kind == "zero":
        return torch.zeros(shape)
    if kind == "any":
        return torch.randn(shape)
    whole = torch.randint(-3, 4, shape).float()
    if kind == "whole":
        return whole
    ends = torch.where(torch.rand(shape) < 0.5, -math.inf, math.inf)
    return torch.nextafter(whole, ends)


KINDS = ("zero", "whole", "one ulp beside", "any")


def operation(kind: str, width: int, device: torch.device) -> dict[str, float]:
    """Largest differences of values and gradients, as shares of the largest; and the share of other sides."""
    torch.manual_seed(width)
    arguments = (
        torch.randn(1, 16, 7, width),
        offsets(kind, width),
        torch.rand(1, 18, 7, width),
        torch.randn(8, 16, 3, 3),
        torch.randn(8),
    )
    upstream = torch.randn(1, 8, 7, width)

    def run(device: torch.device) -> list[Tensor]:
        here = [argument.to(device).requires_grad_() for argument in arguments]
        out = modulated_deform_conv2d(*here)
        gradients = torch.autograd.grad(out, here, upstream.to(device))
        return [tensor.detach().cpu() for tensor in (out, *gradients)]

    wanted = run(torch.device("cpu"))
    with elsewhere(device):
        found = run(device)
    difference = {name: relative(*pair) for name, *pair in zip(NAMES, found, wanted, strict=True)}
    other = (found[2] - wanted[2]).abs() > _NOTICEABLE * wanted[2].abs().max()
    return {**difference, OTHER_SIDE: other.float().mean().item()}


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return ((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)).item()


def searched_detector(width_mult: float, channels: int) -> Detector:
    """One whose neck and head both have deformable convolutions."""
    space, rng = FcosDecoder(FcosDecoderRecipe()), np.random.default_rng(0)
    while True:
        architecture = space.architecture({part: space.sample(part, rng) for part in space.parts})
        searched = Searched(space, architecture, {"fpn": channels, "head": channels})
        model = ModelRecipe(backbone=BackboneRecipe(width_mult=width_mult))
        torch.manual_seed(0)
        detector = build_detector(model, searched, 3, load_weights=False)
        parts = (detector.neck, detector.head)
        if all(any(isinstance(each, DeformConv2d) for each in part.modules()) for part in parts):
            return detector


def training_step(detector: Detector, size: int, device: torch.device) -> dict[str, float]:
    """One step from the same weights on both, in float64: largest differences as shares of the largest value."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)
    batch = Batch(
        images.contiguous(memory_format=torch.channels_last),
        [(size, size)] * 2,
        [
            Sample(
                torch.zeros(3, size, size, dtype=torch.uint8),
                Meta(number, Path(f"{number}.png"), (size, size)),
                boxes=torch.tensor([[4.0, 8.0, size / 2, size / 2], [size / 4, 0.0, size - 9.0, size - 3.0]]),
                labels=torch.tensor([0, 2]),
                crowd=torch.zeros(2, dtype=torch.bool),
            )
            for number in range(2)
        ],
    )

    def run(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        model = copy.deepcopy(detector).double().to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        losses = torch.stack(list(detection_losses(model, batch).values()))
        losses.sum().backward()
        layers = [layer for layer in model.modules() if isinstance(layer, DeformConv2d)]
        gradients = [
            parameter.grad.flatten().cpu()
            for layer in layers
            for parameter in layer.offset_mask.parameters()
            if parameter.grad is not None
        ]
        optimizer.step()
        after = torch.cat([parameter.detach().flatten().cpu() for parameter in model.parameters()])
        return losses.detach().cpu(), torch.cat(gradients), after

    wanted = run(torch.device("cpu"))
    with elsewhere(device):
        found = run(device)
    names = ("losses", "gradients of offsets and masks", "parameters after the step")
    return {name: relative(*pair) for name, *pair in zip(names, found, wanted, strict=True)}


def main() -> None:
    """Print both, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="of the images of the training step")
    parser.add_argument("--width-mult", type=float, default=1.0, help="of the backbone")
    parser.add_argument("--channels", type=int, default=64, help="of neck and head")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # TensorFloat has ten bits, so all that is compared would be hidden.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_cuda = torch.cuda.is_available()
    device = torch.device("cuda" if on_cuda else "cpu")
    machine = torch.cuda.get_device_name() if on_cuda else "no CUDA here: its formulation on the CPU"
    operations = {f"{kind}, {width}": operation(kind, width, device) for kind in KINDS for width in WIDTHS}
    step = training_step(searched_detector(arguments.width_mult, arguments.channels), arguments.size, device)
    others = max(row[OTHER_SIDE] for row in operations.values())
    largest = max(row[name] for row in operations.values() for name in NAMES)
    held = others == 0 and largest <= OF_AN_OPERATION and max(step.values()) <= OF_A_STEP
    if arguments.json:
        values = {"machine": machine, "torch": torch.__version__, "operations": operations, "step": step}
        print(json.dumps({**values, "held": held}, indent=2))
        return
    table = Table("offsets, width", title=f"{machine}, against the CPU's fast path")
    for name in (*NAMES, OTHER_SIDE):
        table.add_column(name, justify="right")
    for name, row in operations.items():
        shares = [f"{row[column]:.0e}" for column in NAMES]
        table.add_row(name, *shares, f"{row[OTHER_SIDE]:.1%}")
    Console(width=110).print(table)
    print(f"a training step of a searched detector, {arguments.size} px:")
    for name, difference in step.items():
        print(f"  {name}: {difference:.1e}")
    print(
        f"other side {others:.1%}, an operation {largest:.1e} (bound {OF_AN_OPERATION:g}), a step "
        f"{max(step.values()):.1e} (bound {OF_A_STEP:g}): {'held' if held else 'missed'}"
    )


if __name__ == "__main__":
    main()
