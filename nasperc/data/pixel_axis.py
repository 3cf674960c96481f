"""One side of an image through geometric transforms: which of its pixels came from where, and where positions went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NOWHERE = -1


@dataclass(frozen=True, eq=False)
class PixelAxis:
    """Every transform of an image maps its two sides independently, so two of these are any chain of transforms.

    ``sources``: (N,) int64, the pixel of the original that each of the N pixels now shows, -1 where there is none.
    A position (a pixel's centre is at k + 0.5) went to ``scale * position + shift``.
    """

    sources: np.ndarray
    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def untouched(cls, length: int) -> PixelAxis:
        """The side of an image as it was read."""
        return cls(np.arange(length))

    def __len__(self) -> int:
        return len(self.sources)

    def resized(self, length: int) -> PixelAxis:
        """Stretched to ``length`` pixels, each of the nearest one."""
        factor = length / len(self)
        sources = self.sources[nearest_pixels(len(self), length).numpy()]
        return PixelAxis(sources, self.scale * factor, self.shift * factor)

    def mirrored(self) -> PixelAxis:
        """From the other end."""
        return PixelAxis(self.sources[::-1], -self.scale, len(self) - self.shift)

    def cropped(self, start: int, stop: int) -> PixelAxis:
        """The pixels from ``start`` (0 or more) to ``stop``, which may lie beyond the end."""
        return PixelAxis(self.sources[start:stop], self.scale, self.shift - start)

    def padded(self, before: int, after: int) -> PixelAxis:
        """With pixels that show nothing added at both ends."""
        sources = np.pad(self.sources, (before, after), constant_values=NOWHERE)
        return PixelAxis(sources, self.scale, self.shift + before)

    def position(self, original: np.ndarray) -> np.ndarray:
        """Where positions of the original are now."""
        return original * self.scale + self.shift

    @property
    def shown(self) -> np.ndarray:
        """(N,) bool: the pixels that show something of the original."""
        return self.sources != NOWHERE

    def shown_at(self, positions: np.ndarray) -> np.ndarray:
        """Whether the pixel at each position, where there is one, shows something of the original."""
        pixels = np.floor(positions).astype(np.int64)
        inside = (pixels >= 0) & (pixels < len(self))
        return inside & self.shown[np.clip(pixels, 0, len(self) - 1)]

    def take(self, field: np.ndarray, axis: int) -> np.ndarray:
        """A field of the original along ``axis`` as it is now, zero where it shows nothing."""
        taken = field.take(self.sources, axis)
        taken[(slice(None),) * axis + (~self.shown,)] = 0
        return taken


def nearest_pixels(length: int, to: int) -> Tensor:
    """(to,) int64: the pixel of ``length`` in which the centre of each of ``to`` pixels lies."""
    return ((torch.arange(to) + 0.5) * (length / to)).long()
