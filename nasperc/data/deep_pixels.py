"""Images of more than 8 bits a channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageFile

from nasperc.errors import InputError

# Of a conversion, so that a large image is not there as float64 as well.
_ROWS = 256
# Tags of a TIFF, and values of theirs.
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
_WHITE_IS_ZERO, _SEPARATE, _UNSIGNED = 0, 2, 1
# What pillow scales the values of a PGM of more than 8 bits to.
_PGM_WHITE = 65535
# Below it, of 255, an image is black to the eye: 12 bits of a camera in 16 bits of a file come to 15.
_DARKEST = 16


def is_deep(picture: ImageFile.ImageFile) -> bool:
    """Whether it is grey of 16 or 32 bits, integers or floats: pillow's modes I, I;16, I;16B, ..., F."""
    return picture.mode.startswith(("I", "F"))


def is_deep_colour(picture: ImageFile.ImageFile) -> bool:
    """Whether it has several channels of 16 bits, of which pillow gives the upper 8; asked before it is decoded."""
    if not picture.tile:
        return False
    arguments = picture.tile[0][3]
    raw = arguments if isinstance(arguments, str) else arguments[0] if arguments else ""
    if _tag(picture, _PLANES) == _SEPARATE:
        return max(_tag(picture, _BITS, (1,))) > 8
    # Not BGR;16, which is 5 or 6 bits a channel.
    return isinstance(raw, str) and ";16" in raw and raw.startswith(("RGB", "LA", "CMYK"))


def check_upper_bits(picture: ImageFile.ImageFile, file: Path) -> None:
    """Refuse colours of 16 bits that use the lower ones alone, and would be read as black.

    Raises:
        InputError: they do.
        ValueError: a TIFF with a plane for each of them, which pillow reads as planes of 8 bits.
    """
    if _tag(picture, _PLANES) == _SEPARATE:
        raise ValueError("a TIFF with separate planes of more than 8 bits")
    # Of several bands a pair each.
    extrema: Any = picture.getextrema()
    bands = zip(picture.getbands(), extrema, strict=True)
    brightest = max(high for band, (_, high) in bands if band not in ("A", "a"))
    # A frame that is black altogether is black.
    if 0 < brightest < _DARKEST:
        raise InputError(
            "a colour image of 16 bits must use the upper 8, which are read",
            value=f"no value of {(brightest + 1) * 256} or more, of 65535",
            where=file,
            repair="Scale its values to 65535, or store it with 8 bits a channel.",
        )


def scaled_grey(picture: ImageFile.ImageFile, file: Path, bounds: tuple[float, float] | None) -> np.ndarray:
    """(H, W) uint8 of a deep image: ``bounds`` become 0 and 255, linear between, clipped beyond, to the nearest.

    Raises:
        InputError: there are no bounds; values that are no finite numbers.
        ValueError: a TIFF whose zero is white, which pillow does not turn round for these modes.
    """
    if _tag(picture, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise ValueError(f"a TIFF of mode {picture.mode} whose zero is white")
    values = _values(picture)
    finite = np.count_nonzero(np.isfinite(values)) if picture.mode == "F" else values.size
    if finite < values.size:
        raise InputError(
            "the values of an image must be finite numbers",
            value=f"{values.size - finite} that are not, mode {picture.mode}",
            where=file,
            repair="Replace them in the file.",
        )
    if bounds is None:
        low, high = f"{values.min():.9g}", f"{values.max():.9g}"
        fits = f" (--set 'data.range=[{low},{high}]' fits this one)" if low != high else ""
        raise InputError(
            "an image must have 8 bits a channel, or data.range must say how its values are scaled",
            value=f"mode {picture.mode}, values from {low} to {high}",
            where=file,
            repair="Set data.range: [LO, HI], the values of black and white in all images, in the recipe"
            f"{fits}, or store 8 bits.",
        )
    black, white = bounds
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = values[start : start + _ROWS].astype(np.float64)
        grey[start : start + _ROWS] = np.rint(np.clip((rows - black) / (white - black), 0, 1) * 255)
    return grey


def _values(picture: ImageFile.ImageFile) -> np.ndarray:
    """(H, W) as the file has them; pillow reads unsigned integers of 32 bits as signed, and scales a PGM's."""
    if picture.format == "PPM" and picture.mode == "I":
        # Decoded, the picture does not know it any more.
        arguments: Any = picture.tile[0][3]
        return np.rint(np.asarray(picture) * (arguments[1] / _PGM_WHITE)).astype(np.int32)
    unsigned = picture.mode == "I" and _tag(picture, _SAMPLE_FORMAT, (_UNSIGNED,)) == (_UNSIGNED,)
    wide = _tag(picture, _BITS) == (32,)
    values = np.asarray(picture)
    return values.view(np.uint32) if unsigned and wide else values


def _tag(picture: ImageFile.ImageFile, tag: int, default: Any = None) -> Any:
    """Of a TIFF; of any other file nothing."""
    return picture.tag_v2.get(tag, default) if picture.format == "TIFF" else None  # type: ignore[attr-defined]
