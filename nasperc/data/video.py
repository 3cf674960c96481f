"""A video data set: runs of frames with label maps, decoded one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise, starmap
from pathlib import Path

from torch import Tensor

from nasperc.data.content import FileHashes
from nasperc.data.fingerprinted import Fingerprinted
from nasperc.data.image import images_by_stem, read_image, read_size
from nasperc.data.image_check import ImageCheck
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.label_map import LabelIds, check_size
from nasperc.data.sample import SEMANTIC_IGNORE, Meta, Sample
from nasperc.data.sequences import runs_of, windows
from nasperc.errors import InputError
from nasperc.limits import require_names


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on disk. ``annotation``: its label map, None where there is none. ``size``: (H, W) as it is read."""

    image: Path
    annotation: Path | None
    size: tuple[int, int]

    @classmethod
    def of(cls, image: Path, annotation: Path | None, rules: ImageRules = AS_STORED) -> Frame:
        """The frame, with its size from the headers; the label map belongs to the picture as ``rules`` read it.

        Raises:
            InputError: a file is missing or no image, or the two differ in size.
        """
        size = read_size(image, rules)
        if annotation is not None:
            check_size(read_size(annotation), size, annotation)
        return cls(image, annotation, size)


class VideoDataset(Fingerprinted):
    """One split: ``len()`` in frames, and samples by index. It keeps no file open, so processes may share it.

    Attributes:
        name: of the data set, for messages and reports.
        split: "train", "val", ...
        classes: names in the order of the labels.
        frames: all of them, run after run.
        runs: the indices of each run of consecutive frames.
        rules: how images are read.

    Raises:
        InputError: frames of one run differ in size; too many classes, or a name that is too long.
    """

    def __init__(
        self,
        name: str,
        split: str,
        classes: tuple[str, ...],
        runs: Iterable[Sequence[Frame]],
        ids: LabelIds,
        rules: ImageRules = AS_STORED,
    ) -> None:
        require_names(classes, where=f"{name} {split}")
        runs = tuple(runs)
        for run in runs:
            for frame in run:
                check_frame_size(frame.size, run[0].size, frame.image)
        self.name = name
        self.split = split
        self.classes = classes
        self.frames = tuple(frame for run in runs for frame in run)
        self.runs = tuple(starmap(range, pairwise(accumulate(map(len, runs), initial=0))))
        self.rules = rules
        self._ids = ids

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """The sample of one frame; ``semantic`` is None where the frame is not annotated.

        Raises:
            InputError: the image or its label map cannot be read, or the map has an unknown id.
            IndexError: there is no such frame.
        """
        frame = self.frames[index]
        return Sample(
            image=read_image(frame.image, frame.size, self.rules),
            meta=Meta(range(len(self))[index] + 1, frame.image, frame.size),
            semantic=self._labels(frame),
        )

    @cached_property
    def images(self) -> ImageCheck:
        """What the headers of the frames say; they are read when it is first asked for, by the driver alone."""
        return ImageCheck.of((frame.image for frame in self.frames), self.rules)

    def lines(self) -> list[str]:
        """What the user should be told once of how the split was read, a line each."""
        return self.images.lines()

    def _labels(self, frame: Frame) -> Tensor | None:
        return None if frame.annotation is None else self._ids.read(frame.annotation, frame.size)

    def annotated(self) -> tuple[int, ...]:
        """The frames that have a label map: what a per-frame network is trained and measured on."""
        return tuple(k for k, frame in enumerate(self.frames) if frame.annotation is not None)

    def shows_class(self, frames: Iterable[int]) -> bool:
        """Whether a label map of these annotated frames has a pixel that is not ignored; the first that has one is the
        last that is read.

        Raises:
            InputError: a label map cannot be read.
        """
        read = (self._labels(self.frames[k]) for k in frames)
        return any(labels is not None and bool((labels != SEMANTIC_IGNORE).any()) for labels in read)

    def sequences(self, length: int) -> tuple[range, ...]:
        """All sequences of ``length`` consecutive frames of which every one after the first is annotated.

        They overlap. Their samples: ``[dataset[k] for k in sequence]``.

        Raises:
            InputError: ``length`` < 2, a run shorter than ``length``, or no such sequence at all.
        """
        if length < 2:
            raise InputError(
                "a sequence must have at least two frames",
                value=length,
                where=f"the length of sequences of {self.name}",
                repair="Use pairs or triplets.",
            )
        for run in self.runs:
            if len(run) < length:
                raise InputError(
                    f"a sequence of {length} frames needs as many consecutive frames",
                    value=f"a run of {len(run)}",
                    where=self.frames[run.start].image,
                    repair="Add its neighbours (Cityscapes: leftImg8bit_sequence), or take it off the split.",
                )
        found = tuple(
            window
            for window in windows(self.runs, length)
            if all(self.frames[k].annotation is not None for k in window[1:])
        )
        if not found:
            raise InputError(
                f"of {length} consecutive frames every one after the first must be annotated",
                value="no such sequence",
                where=f"{self.name} {self.split}",
                repair="Use shorter sequences, or annotate more frames.",
            )
        return found

    def files(self) -> tuple[Path, ...]:
        """Image and label map of every frame."""
        pairs = ((frame.image, frame.annotation) for frame in self.frames)
        return tuple(file for pair in pairs for file in pair if file is not None)

    @cached_property
    def described(self) -> str:
        """Of classes, ids, runs, frame names and sizes, and which frames have a label map."""
        frames = [[frame.image.name, frame.size, frame.annotation is not None] for frame in self.frames]
        return hashlib.sha256(json.dumps([self._head(), frames]).encode()).hexdigest()

    def old_fingerprint(self) -> str:
        """See :meth:`Fingerprinted.old_fingerprint`: label maps counted, images did not."""
        if self.hashes is None:
            maps = [frame.annotation for frame in self.frames if frame.annotation is not None]
            hashes = dict(zip(maps, FileHashes(None).of(maps), strict=True))
        else:
            hashes = dict(zip(self.files(), self.hashes, strict=True))
        digest = hashlib.sha256()
        digest.update(json.dumps(self._head()).encode())
        for frame in self.frames:
            digest.update(json.dumps([frame.image.name, frame.size]).encode())
            digest.update(b"" if frame.annotation is None else bytes.fromhex(hashes[frame.annotation]))
        return digest.hexdigest()

    def _head(self) -> list[object]:
        runs = [[run.start, run.stop] for run in self.runs]
        return [self.classes, sorted(self._ids.labels.items()), runs]


def list_frames(folder: Path) -> list[list[Path]]:
    """The images of a folder as runs of frames in the order of the video, for prediction; none is opened.

    Raises:
        InputError: the folder is missing or has no image.
    """
    images = images_by_stem(folder)
    if not images:
        raise InputError(
            "a folder of frames must hold images",
            value="none",
            where=folder,
            repair="Name the folder that they are in.",
        )
    return [[images[name] for name in run] for run in runs_of(list(images))]


def check_frame_size(size: tuple[int, int], expected: tuple[int, int], file: Path) -> None:
    """Raises InputError unless a frame's (H, W) is that of those before it in its run."""
    if size != expected:
        raise InputError(
            "frames that follow one another must have one size",
            value=f"{size[1]}x{size[0]} after {expected[1]}x{expected[0]}",
            where=file,
            repair="Mend it, or give other videos other names.",
        )
