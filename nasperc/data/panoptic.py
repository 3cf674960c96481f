"""A panoptic data set: things as objects, as any detection data set has them, and the segments of things and stuff.

Legend used in shapes: S segments of an image, (H, W) the image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.image import read_image
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.report import ReadReport
from nasperc.data.sample import SEMANTIC_IGNORE, Sample
from nasperc.data.segment_map import VOID, masks_in, places_in, read_segments
from nasperc.errors import InputError
from nasperc.limits import require_names
from nasperc.models.panoptic.segmentation import THINGS, PanopticSegmentation

# In a semantic map they stand beside the class of all things and the value of what is ignored.
MOST_STUFF = SEMANTIC_IGNORE - 1


class PanopticClasses(NamedTuple):
    """``things``: names in the order of the labels of boxes; ``stuff``: in that of the classes of a semantic map."""

    things: tuple[str, ...]
    stuff: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the labels of segments: things, then stuff."""
        return self.things + self.stuff

    def ordered(self, names: Sequence[str], where: str | Path) -> PanopticClasses:
        """These classes in the order of ``names``, a list of all things, and of all stuff or of none.

        Raises:
            InputError: a name is none of these classes; one of them is missing.
        """
        unknown = [name for name in names if name not in self.names]
        stuff = tuple(name for name in names if name in self.stuff) or self.stuff
        ordered = PanopticClasses(tuple(name for name in names if name in self.things), stuff)
        missing = [name for name in self.names if name not in ordered.names]
        for wrong, what in ((unknown, "unknown"), (missing, "missing")):
            if wrong:
                raise InputError(
                    f"a list of panoptic classes must have all of {', '.join(self.things)}, and all stuff or none",
                    value=f"'{wrong[0]}' {what}",
                    where=where,
                    repair="Mend the list, or leave it out.",
                )
        return ordered


@dataclass(frozen=True, eq=False, slots=True)
class Segments:
    """What is listed of an image's segments. ``ids``: (S,) int64, as in its map. ``labels``: (S,) int64, of things,
    then of stuff. ``crowd``: (S,) bool."""

    ids: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class PanopticRecord(Record):
    """``key``: what the annotation file calls the image, which need not be a number. ``segments``: all of them; an
    image without a ``segment_map`` is not annotated, and all of it is void."""

    key: int | str = 0
    segments: Segments = Segments(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))

    def ids(self) -> np.ndarray:
        """(H, W) int64: the id of each pixel's segment.

        Raises:
            InputError: the map cannot be read, or is of another size.
        """
        if self.segment_map is None:
            return np.full(self.size, VOID, np.int64)
        return read_segments(self.segment_map, self.size)


class PanopticDataset(DetectionDataset):
    """One split. Its objects are the segments of things, ``classes`` the things; a sample has a semantic map, and a map
    of its segments, too: k for the segment k - 1 of its record, 0 for void.

    Args:
        name, split, records, report, rules: as of a :class:`DetectionDataset`, opened with masks.
        panoptic: the classes.
        category_ids: by label of a segment, what the annotation file calls it; None: not known for every class.

    Raises:
        InputError: too many classes, or a name that is too long.
    """

    records: tuple[PanopticRecord, ...]

    def __init__(
        self,
        name: str,
        split: str,
        panoptic: PanopticClasses,
        records: Iterable[PanopticRecord],
        report: ReadReport | None = None,
        rules: ImageRules = AS_STORED,
        *,
        category_ids: tuple[int, ...] | None = None,
    ) -> None:
        require_names(panoptic.names, where=f"{name} {split}")
        if len(panoptic.stuff) > MOST_STUFF:
            raise InputError(
                f"there may be {MOST_STUFF} classes of stuff at most",
                value=len(panoptic.stuff),
                where=f"{name} {split}",
                repair="Merge some of them.",
            )
        super().__init__(name, split, panoptic.things, records, report, rules, category_ids=category_ids)
        self.panoptic = panoptic

    def __getitem__(self, index: int) -> Sample:
        """The sample of one image.

        Raises:
            InputError: the image cannot be read, has another size than its annotation states, or is refused by
                ``rules``; its map of segments cannot be read, or does not fit what is listed.
            IndexError: there is no such image.
        """
        record = self.records[index]
        # First the image: what its annotation says of its size may be anything, and maps would be made of it.
        image = read_image(record.file, record.size, self.rules)
        ids, file = record.ids(), record.segment_map or record.file
        places = torch.from_numpy(places_in(ids, record.segments.ids, file))
        sample = self._sample(record, image, masks_in(ids, record.segmentations or (), file))
        semantic = self.semantic(torch.from_numpy(record.segments.labels))[places]
        return sample.with_fields(semantic=semantic, panoptic=places)

    def truth(self, index: int, sample: Sample) -> PanopticSegmentation:
        """The segments of one image, ``sample`` being what it was read to, as it was read."""
        assert sample.panoptic is not None
        listed = self.records[index].segments
        return PanopticSegmentation(
            sample.panoptic, torch.from_numpy(listed.labels), torch.from_numpy(listed.crowd)
        )

    def semantic(self, labels: Tensor) -> Tensor:
        """(S + 1,) int64, what void and each of S segments with these labels is in a semantic map: 255, ``THINGS`` or
        1 + k of stuff k."""
        things = len(self.panoptic.things)
        classes = torch.where(labels < things, THINGS, labels - things + THINGS + 1)
        return torch.cat((torch.tensor([SEMANTIC_IGNORE]), classes))

    def as_one_class(self) -> NoReturn:
        raise InputError(
            "a panoptic data set has its classes",
            value="data.one_class: true",
            where=f"{self.name} {self.split}",
            repair="Leave that key out.",
        )

    def _of(self, records: Iterable[Record]) -> PanopticDataset:
        return PanopticDataset(
            self.name,
            self.split,
            self.panoptic,
            records,  # type: ignore[arg-type]
            self.report,
            self.rules,
            category_ids=self.category_ids,
        )

    @cached_property
    def described(self) -> str:
        """As of a :class:`DetectionDataset`, and of all that is listed of segments."""
        digest = hashlib.sha256(super().described.encode())
        digest.update(json.dumps(self.panoptic).encode())
        for record in self.records:
            digest.update(json.dumps([record.key, len(record.segments.ids)]).encode())
            for array in (record.segments.ids, record.segments.labels, record.segments.crowd):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
