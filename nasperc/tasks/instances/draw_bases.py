"""How BlendMask comes to its masks: the bases of an image, and what attentions take of them (thesis Figs 4.1, 4.3)."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from nasperc.models.blendmask.model import Blended, BlendMask
from nasperc.ops.boxes import clip_boxes
from nasperc.shown_text import for_plot
from nasperc.tasks.detection.predict import Seen

# Of the detections the best are shown, of the bases the first.
MOST_DETECTIONS, MOST_BASES = 3, 8
# As in Fig. 4.3, red, blue, yellow and green come first.
COLOURS = ("#d62728", "#1f5fb4", "#e0a800", "#2ca02c", "#8e44ad", "#e67e22", "#16a3b8", "#d6489f")
_NEGATIVE, _MASK = "#1a1a1a", "#00b4ff"
_DPI, _CELL = 110, 1.3
# Shown around a box, as a share of its longer side; at least so much of the picture's shorter one is shown.
_MARGIN, _LEAST = 0.12, 0.15

Box = tuple[float, float, float, float]
# Left, right, bottom, top.
Extent = tuple[float, float, float, float]


def draw_bases(seen: Seen) -> Image.Image:
    """Above, the bases of the whole image, and the attentions where they lie in it: each place has the colours of the
    bases that a mask is made of there. Below, of each of the best detections: the bases inside of its box, times the
    attentions, are products, which add up to the mask.

    Args:
        seen: what a :class:`BlendMask` made of an image.
    """
    model = seen.model
    assert isinstance(model, BlendMask)
    best = seen.found[torch.arange(min(MOST_DETECTIONS, len(seen.found)))]
    assert best.location is not None
    assert best.scores is not None
    assert best.labels is not None
    with torch.no_grad():
        image = torch.zeros_like(best.location)
        blended = Blended(
            *(part.cpu() for part in model.blended_at(seen.output, best.boxes, image, best.location))
        )
    # Without the padding; cells that lie on the border are whole.
    stride = model.bottom.stride
    height, width = (-(-side // stride) for side in seen.size)
    bases = seen.output.head.bases[0, :, :height, :width].cpu().numpy()
    clipped = best.with_fields(boxes=clip_boxes(best.boxes, seen.size))
    boxes, places = _corners(best.boxes), _corners(clipped.mask_boxes)

    columns = min(MOST_BASES, len(bases))
    # In inches; the line above the bases needs some.
    wide = max(_CELL * (columns + 2) + 0.6, 6.0)
    top = wide / (columns + 1) * seen.size[0] / seen.size[1]
    heights = [min(max(top, 1.0), 4.0) + 0.6, *[3 * _CELL + 0.5] * len(boxes)]
    figure = Figure(figsize=(wide, sum(heights)), dpi=_DPI, layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_image(parts[0], seen, bases, stride, boxes, blended)
    # One basis is multiplied as a probability.
    scale = 1.0 if model.blender.single else _scale(bases)
    for number, part in enumerate(parts[1:]):
        name, score = seen.classes[int(best.labels[number])], float(best.scores[number])
        title = for_plot(f"{name}  {score:.2f}")
        part.suptitle(title, x=0.01, horizontalalignment="left", fontsize=10, fontweight="bold")
        alone = Blended(*(each[number] for each in blended))
        _draw_detection(part, seen, boxes[number], places[number], alone, scale)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _draw_image(
    part: SubFigure, seen: Seen, bases: np.ndarray, stride: int, boxes: list[Box], blended: Blended
) -> None:
    shown, scale = bases[:MOST_BASES], _scale(bases)
    all_of_them = f"{len(bases)} bases" if len(bases) > 1 else "the basis"
    which = all_of_them if len(shown) == len(bases) else f"{len(shown)} of {all_of_them}"
    part.suptitle(
        f"{which} of the image: white is 0, colour is above it (to {scale:.2g}), black is below",
        fontsize=9,
    )
    axes = part.subplots(1, len(shown) + 1, squeeze=False)[0]
    height, width = bases.shape[1:]
    for number, (axis, basis, colour) in enumerate(zip(axes, shown, _colours(len(shown)), strict=False), 1):
        _signed(axis, basis, colour, scale, (0, width * stride, height * stride, 0))
        axis.set(xlim=(0, seen.size[1]), ylim=(seen.size[0], 0))
        axis.set_title(f"basis {number}", fontsize=9, color=colour)
    _picture(axes[-1], seen, grey=True)
    axes[-1].set_title("attentions" if boxes else "nothing found", fontsize=9)
    colours = np.array([to_rgb(each) for each in _colours(len(bases))])
    # The best on top.
    for (x1, y1, x2, y2), scores in reversed(list(zip(boxes, blended.scores.numpy(), strict=True))):
        share = scores / scores.sum(0).clip(1e-6)
        mixed = np.einsum("krc,kd->rcd", share, colours)
        axes[-1].imshow(mixed.clip(0, 1), extent=(x1, x2, y2, y1), alpha=0.85, interpolation="nearest")
        axes[-1].add_patch(_outline((x1, y1, x2, y2)))
    axes[-1].set(xlim=(0, seen.size[1]), ylim=(seen.size[0], 0))


def _draw_detection(
    part: SubFigure, seen: Seen, box: Box, place: Box, blended: Blended, scale: float
) -> None:
    """``blended``: of one detection; ``place``: what its mask is pasted into."""
    regions, scores, mask = (each.numpy() for each in blended)
    products = regions * scores
    count = min(MOST_BASES, len(regions))
    grid = part.add_gridspec(3, count + 2, width_ratios=[1.25, *[1] * count, 1.25])
    crop = part.add_subplot(grid[:, 0])
    _crop(crop, seen, box)
    crop.add_patch(_outline(box))
    for number, colour in enumerate(_colours(count)):
        cells = [part.add_subplot(grid[row, number + 1]) for row in range(3)]
        _signed(cells[0], regions[number], colour, scale)
        fade = LinearSegmentedColormap.from_list("", ["white", colour])
        cells[1].imshow(scores[number], cmap=fade, vmin=0, vmax=1, interpolation="nearest")
        _signed(cells[2], products[number], colour, _scale(products))
        for cell in cells:
            _bare(cell)
        if number == 0:
            for cell, label in zip(cells, ("bases", "× attentions", "= products"), strict=True):
                cell.set_ylabel(label, fontsize=9)
    right = grid[:, count + 1].subgridspec(2, 1)
    alone, pasted = part.add_subplot(right[0]), part.add_subplot(right[1])
    alone.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    alone.set_title("sum: mask", fontsize=9)
    _bare(alone)
    _crop(pasted, seen, box)
    x1, y1, x2, y2 = place
    inside = np.zeros((*mask.shape, 4))
    inside[..., :3], inside[..., 3] = to_rgb(_MASK), 0.55 * (mask >= 0.5)
    drawn = pasted.imshow(inside, extent=(x1, x2, y2, y1), interpolation="nearest", zorder=2)
    drawn.set_clip_path(Rectangle((0, 0), seen.size[1], seen.size[0], transform=pasted.transData))
    pasted.set(**_window(box, seen.size))
    pasted.set_title("in the picture", fontsize=9)


def _corners(boxes: Tensor) -> list[Box]:
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes.tolist()]


def _colours(count: int) -> list[str]:
    return list(islice(cycle(COLOURS), count))


def _scale(values: np.ndarray) -> float:
    """What counts as large of either sign; single outliers are cut."""
    return max(float(np.quantile(np.abs(values), 0.995)), 1e-6)


def _signed(axis: Axes, values: np.ndarray, colour: str, scale: float, extent: Extent | None = None) -> None:
    colours = LinearSegmentedColormap.from_list("", [_NEGATIVE, "white", colour])
    axis.imshow(values, cmap=colours, vmin=-scale, vmax=scale, extent=extent, interpolation="nearest")
    _bare(axis)


def _picture(axis: Axes, seen: Seen, *, grey: bool = False) -> None:
    height, width = seen.size
    if grey:
        # So that colours stand out.
        pixels = 96 + np.asarray(seen.picture.convert("L")) * 0.6
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    else:
        axis.imshow(np.asarray(seen.picture), extent=(0, width, height, 0))
    _bare(axis)


def _crop(axis: Axes, seen: Seen, box: Box) -> None:
    """The picture around a box; what lies outside of it is grey."""
    _picture(axis, seen)
    axis.set_facecolor("#d0d0d0")
    axis.set(**_window(box, seen.size))


def _window(box: Box, size: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """A square around it."""
    x1, y1, x2, y2 = box
    half = max((0.5 + _MARGIN) * max(x2 - x1, y2 - y1), _LEAST * min(size) / 2)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return {"xlim": (x - half, x + half), "ylim": (y + half, y - half)}


def _outline(box: Box) -> Rectangle:
    x1, y1, x2, y2 = box
    return Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="black", linewidth=1)


def _bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set(color="#b0b0b0", linewidth=0.6)
