"""Label maps as pictures: laid over their frames, in a strip with a legend, and as an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# How much of a pixel's colour is its class's.
_OPACITY = 0.6
# Of one frame in a strip or an animation; larger ones are scaled down.
_WIDEST = 480
_GAP, _LEGEND_ROW, _LEGEND_TEXT = 4, 22, 13


def side_by_side(image: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> Image.Image:
    """A frame, and beside it the same frame under the colours of its labels, each at most 480 pixels wide.

    Args:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W), below ``len(colours)``.
        colours: (C, 3) uint8, RGB.
    """
    overlay = (1 - _OPACITY) * image + _OPACITY * colours[labels]
    height, width = labels.shape
    scale = min(1.0, _WIDEST / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pair = Image.new("RGB", (2 * size[0] + _GAP, size[1]), "white")
    for place, pixels in enumerate((image, overlay.round().astype(np.uint8))):
        pair.paste(Image.fromarray(pixels).resize(size, Image.Resampling.BOX), (place * (size[0] + _GAP), 0))
    return pair


def write_strip(
    path: Path, pairs: Sequence[Image.Image], classes: Sequence[str], colours: np.ndarray
) -> None:
    """Write pictures one below the other, and below them the colour of each class, as PNG."""
    width = max(pair.width for pair in pairs)
    legend = _legend(width, classes, colours)
    height = sum(pair.height + _GAP for pair in pairs)
    strip = Image.new("RGB", (width, height + legend.height), "white")
    y = 0
    for pair in pairs:
        strip.paste(pair, (0, y))
        y += pair.height + _GAP
    strip.paste(legend, (0, y))
    strip.save(path, "PNG")


def write_animation(path: Path, pictures: Sequence[Image.Image], frame_ms: int = 120) -> None:
    """Write pictures one after the other as an animated WebP that starts again at its end."""
    first, *others = pictures
    first.save(
        path, "WEBP", save_all=True, append_images=others, duration=frame_ms, loop=0, quality=75, method=2
    )


def _legend(width: int, classes: Sequence[str], colours: np.ndarray) -> Image.Image:
    """A box of its colour and the name of each class, in as many columns as fit into ``width``."""
    font = ImageFont.load_default(size=_LEGEND_TEXT)
    entry = 34 + max(round(font.getlength(name)) for name in classes)
    columns = max(1, width // entry)
    picture = Image.new("RGB", (width, _LEGEND_ROW * -(-len(classes) // columns)), "white")
    draw = ImageDraw.Draw(picture)
    for index, (name, colour) in enumerate(zip(classes, colours.tolist(), strict=True)):
        row, column = divmod(index, columns)
        x, y = column * entry, row * _LEGEND_ROW
        draw.rectangle((x + 4, y + 4, x + 20, y + 18), fill=tuple(colour))
        draw.text((x + 26, y + 3), name, fill="black", font=font)
    return picture
