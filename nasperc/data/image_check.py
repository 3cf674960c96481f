"""What the headers of a split's images say, looked at once by the process that drives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nasperc.data.image import oriented_error, read_header, read_image
from nasperc.data.image_rules import ImageRules
from nasperc.errors import InputError

_READS = {
    "ignore": "reads them as stored",
    "apply": "reads them upright",
    "refuse": "refuses them",
}


@dataclass(frozen=True)
class ImageCheck:
    """``oriented``: images with an EXIF orientation; the first of them, and which it has. ``first_deep``: the first
    grey image of more than 8 bits."""

    rules: ImageRules
    oriented: int = 0
    first_oriented: Path | None = None
    first_orientation: int = 1
    first_deep: Path | None = None

    @classmethod
    def of(cls, files: Iterable[Path], rules: ImageRules) -> ImageCheck:
        """Of files in their order. One that cannot be read is passed over: its reader says so, if it has one."""
        oriented, first, orientation, deep = 0, None, 1, None
        for file in files:
            try:
                header = read_header(file)
            except InputError:
                continue
            if header.deep and deep is None:
                deep = file
            if header.orientation != 1:
                oriented += 1
                if first is None:
                    first, orientation = file, header.orientation
        return cls(rules, oriented, first, orientation, deep)

    def require(self) -> None:
        """Refuse, before anything is spent on the others, images that would be refused when they are read.

        Raises:
            InputError: there are such images.
        """
        if self.rules.exif == "refuse" and self.first_oriented is not None:
            raise oriented_error(self.first_oriented, self.first_orientation, self.oriented)
        if self.rules.range is None and self.first_deep is not None:
            # It tells the values, which no header does.
            read_image(self.first_deep)

    def lines(self) -> list[str]:
        """No or one line for the user, to be printed once."""
        if not self.oriented:
            return []
        images = "1 image carries" if self.oriented == 1 else f"{self.oriented} images carry"
        return [
            f"{images} an EXIF orientation (first: {self.first_oriented}, {self.first_orientation}): "
            f"data.exif: {self.rules.exif} {_READS[self.rules.exif]}"
        ]
