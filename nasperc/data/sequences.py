"""Runs of consecutive frames, the sequences cut from them, and their split into whole contiguous blocks.

Frames are numbered through a data set; a run and a sequence are ranges of these numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nasperc.errors import InputError

# Not the 8 of "leftImg8bit": a frame's number is followed by no letter.
_NUMBER = re.compile(r"\d+(?![A-Za-z\d])")


def runs_of(names: Sequence[str]) -> list[list[str]]:
    """Frame names (no suffix) in the order of the video, one list a run.

    A run has one name apart from its last number, which grows at an even step: the median among the frames of
    that name. It may vary by a tenth (CamVid's 30 are 29 or 31 here and there); where it does not hold a new
    run begins. A name without a number is a run of its own.
    """
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in names:
        *_, last = [None, *_NUMBER.finditer(name)]
        rest = (name[: last.start()], name[last.end() :]) if last else (name, "")
        groups.setdefault(rest, []).append((int(last.group()) if last else 0, name))
    runs: list[list[str]] = []
    for _, frames in sorted(groups.items()):
        frames.sort()
        gaps = [after - before for (before, _), (after, _) in pairwise(frames)]
        step = sorted(gaps)[(len(gaps) - 1) // 2] if gaps else 0
        runs.append([frames[0][1]])
        for gap, (_, name) in zip(gaps, frames[1:], strict=True):
            if abs(gap - step) > step / 10:
                runs.append([])
            runs[-1].append(name)
    return runs


def windows(runs: Sequence[range], length: int) -> tuple[range, ...]:
    """All sequences of ``length`` consecutive frames within a run; they overlap."""
    return tuple(
        range(start, start + length) for run in runs for start in range(run.start, run.stop - length + 1)
    )


@dataclass(frozen=True)
class SequenceSplit:
    """Sequences to train on and sequences that give the reward; no frame is in both parts."""

    train: tuple[range, ...]
    val: tuple[range, ...]


def split_sequences(
    sequences: Sequence[range],
    runs: Sequence[range],
    *,
    fraction: float = 0.1,
    block: int = 10,
    seed: int = 0,
) -> SequenceSplit:
    """Meta-train and meta-val (thesis 6.4.1: a random tenth), split by whole contiguous blocks of frames.

    Each run is cut into equal blocks of at least ``block`` frames (a shorter run is one block); random ones are
    meta-val, as many as come nearest to ``fraction`` of the frames. A sequence belongs to the part that has all
    of its frames; those across a border, at most ``length - 1`` at each, belong to neither.

    Args:
        sequences: from :func:`windows`, all of one length.
        runs: the data set's.
        fraction: of the frames, for meta-val; at least one block on either side.
        block: frames, at least the length of a sequence.
        seed: of the choice.

    Raises:
        InputError: one of the parts would have no sequence.
    """
    blocks = [piece for run in runs for piece in _pieces(run, block)]
    wanted = fraction * sum(map(len, blocks))
    chosen: set[int] = set()
    order = np.random.default_rng([seed, 0]).permutation(len(blocks))
    for index in order[:-1].tolist():
        if chosen and len(chosen) + len(blocks[index]) / 2 > wanted:
            continue
        chosen.update(blocks[index])
    split = SequenceSplit(
        tuple(each for each in sequences if chosen.isdisjoint(each)),
        tuple(each for each in sequences if chosen.issuperset(each)),
    )
    if not split.train or not split.val:
        raise InputError(
            "the train split must have sequences to train on and others to measure on",
            value=f"{len(split.train)} and {len(split.val)}, from {len(blocks)} blocks of at least {block} frames",
            where="recipe key data.path",
            repair="Use more frames, or smaller blocks that are not shorter than a sequence.",
        )
    return split


def _pieces(run: range, block: int) -> list[range]:
    """The run in equal pieces (up to one frame) of at least ``block`` frames; itself where it is shorter."""
    count = max(1, len(run) // block)
    edges = [run.start + len(run) * k // count for k in range(count + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]
