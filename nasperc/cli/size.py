"""An image size as typed."""

from __future__ import annotations

from nasperc.errors import InputError
from nasperc.limits import LONGEST_SIDE

_SMALLEST = 32


def parse_size(text: str, multiple: int = 1) -> tuple[int, int]:
    """``HxW``: (H, W) in pixels.

    Raises:
        InputError: anything else, a side below 32 or above :data:`LONGEST_SIDE`, or no multiple of ``multiple``.
    """
    height, separator, width = text.partition("x")
    sides = [int(side) for side in (height, width) if side.isascii() and side.isdigit()]
    if (
        not separator
        or len(sides) != 2
        or any(not _SMALLEST <= side <= LONGEST_SIDE or side % multiple for side in sides)
    ):
        raise InputError(
            f"a size must be HxW, height and width in pixels, both "
            f"{f'multiples of {multiple}' if multiple > 1 else f'at least {_SMALLEST}'}, at most {LONGEST_SIDE}",
            value=repr(text),
            where="--size",
            repair="For example --size 800x1088." if multiple > 1 else "For example --size 360x480.",
        )
    return sides[0], sides[1]
