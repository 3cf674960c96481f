"""What a reader mended: degenerate boxes and objects without a mask dropped, boxes that reach outside the image
clipped, areas replaced."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from nasperc.errors import InputError

# COCO writes corners and extents with two decimals, so x + w may overshoot the border by rounding alone.
ROUNDING = 0.02

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ReadReport:
    """Counts of one read split, with the first file of each kind; ``notes``: what is no count, a line each;
    ``left_out``: name of a category that is no class."""

    dropped: int = 0
    clipped: int = 0
    first_dropped: Path | None = None
    first_clipped: Path | None = None
    areas: int = 0
    first_area: Path | None = None
    notes: tuple[str, ...] = ()
    left_out: str | None = None
    without_mask: int = 0
    first_without_mask: Path | None = None

    def lines(self) -> list[str]:
        """A line for each kind, for the user, to be printed once."""
        lines = list(self.notes)
        if self.dropped:
            lines.append(
                f"{self.dropped} degenerate {_boxes(self.dropped)} dropped (first: {self.first_dropped})"
            )
        if self.without_mask:
            objects = "object" if self.without_mask == 1 else "objects"
            lines.append(
                f"{self.without_mask} {objects} without a mask dropped (first: {self.first_without_mask})"
            )
        if self.clipped:
            lines.append(
                f"{self.clipped} {_boxes(self.clipped)} reaching outside the image clipped "
                f"(first: {self.first_clipped})"
            )
        if self.areas:
            what = (
                "area that is no number above 0" if self.areas == 1 else "areas that are no numbers above 0"
            )
            lines.append(f"{self.areas} {what} replaced by that of the box (first: {self.first_area})")
        return lines


def _boxes(count: int) -> str:
    return "box" if count == 1 else "boxes"


class BoxCheck:
    """Drops and clips objects of one split and counts both; with ``strict`` the first such object is an error.

    ``notes``, ``left_out``: what else the reader mended, for the report.
    """

    def __init__(
        self, strict: bool = False, notes: tuple[str, ...] = (), left_out: str | None = None
    ) -> None:
        self._strict, self._notes, self._left_out = strict, notes, left_out
        self._dropped = self._clipped = self._areas = self._without_mask = 0
        self._first_dropped: Path | None = None
        self._first_clipped: Path | None = None
        self._first_area: Path | None = None
        self._first_without_mask: Path | None = None

    def drop(self, rule: str, value: object, where: Path) -> None:
        """Count one degenerate object.

        Raises:
            InputError: with ``strict``, saying ``rule``.
        """
        self._refuse_if_strict(rule, value, where)
        self._dropped += 1
        self._first_dropped = self._first_dropped or where

    def drop_without_mask(self, rule: str, value: object, where: Path) -> None:
        """Count one object of which no pixel is left.

        Raises:
            InputError: with ``strict``, saying ``rule``.
        """
        self._refuse_if_strict(rule, value, where)
        self._without_mask += 1
        self._first_without_mask = self._first_without_mask or where

    def replace_area(self, rule: str, value: object, where: Path) -> None:
        """Count one stated area that no object has.

        Raises:
            InputError: with ``strict``, saying ``rule``.
        """
        self._refuse_if_strict(rule, value, where)
        self._areas += 1
        self._first_area = self._first_area or where

    def clip(self, box: Box, size: tuple[int, int], where: Path) -> Box | None:
        """The part of ``box`` (x1, y1, x2, y2) inside an image of ``size`` (H, W); None when nothing is left.

        Raises:
            InputError: a coordinate is not finite; or, with ``strict``, the box reaches outside.
        """
        if not all(map(math.isfinite, box)):
            raise InputError(
                "box coordinates must be finite numbers",
                value=box,
                where=where,
                repair="Mend the annotation.",
            )
        height, width = size
        x1, y1, x2, y2 = box
        inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            self.drop("a box must overlap its image", f"{box} in an image of {width}x{height}", where)
            return None
        if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > ROUNDING:
            self._refuse_if_strict(
                "a box must lie inside its image", f"{box} in an image of {width}x{height}", where
            )
            self._clipped += 1
            self._first_clipped = self._first_clipped or where
        return inside

    def report(self) -> ReadReport:
        """The counts so far."""
        return ReadReport(
            self._dropped,
            self._clipped,
            self._first_dropped,
            self._first_clipped,
            self._areas,
            self._first_area,
            self._notes,
            self._left_out,
            self._without_mask,
            self._first_without_mask,
        )

    def _refuse_if_strict(self, rule: str, value: object, where: Path) -> None:
        if self._strict:
            raise InputError(
                rule, value=value, where=where, repair="Mend the annotation, or read without --strict."
            )
