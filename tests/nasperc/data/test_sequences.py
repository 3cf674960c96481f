import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasperc.data.sequences import runs_of, split_sequences, windows
from nasperc.errors import InputError

properties = settings(deadline=None, max_examples=100)


def lengths(names: list[str]) -> list[int]:
    return [len(run) for run in runs_of(names)]


def test_runs_break_where_the_prefix_or_the_step_changes():
    names = [f"A_{n:05d}" for n in (0, 30, 60, 91, 120, 150, 990, 1020)] + [
        f"B_{n}" for n in (8, 9, 10, 12, 13)
    ]
    random.Random(0).shuffle(names)
    assert runs_of(names) == [
        ["A_00000", "A_00030", "A_00060", "A_00091", "A_00120", "A_00150"],
        ["A_00990", "A_01020"],
        ["B_8", "B_9", "B_10"],
        ["B_12", "B_13"],
    ]


def test_pairs_far_apart_are_runs_of_two():
    assert runs_of(["c_18", "c_19", "c_48", "c_49"]) == [["c_18", "c_19"], ["c_48", "c_49"]]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Seq05VD_f00000", "Seq05VD_f00030"], [2]),
        (["1_left", "2_left", "3_right"], [2, 1]),
        (["aachen_000000_000018_leftImg8bit", "aachen_000000_000019_leftImg8bit"], [2]),
        (["first", "second"], [1, 1]),
        (["0001", "0002", "0003"], [3]),
        (["1403636579763555584", "1403636579813555456", "1403636579863555584"], [3]),
        ([], []),
    ],
)
def test_names(names, expected):
    assert lengths(names) == expected


def ranges(sizes: list[int]) -> list[range]:
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def test_windows_stay_within_runs():
    assert windows(ranges([4, 2, 3]), 3) == (range(0, 3), range(1, 4), range(6, 9))
    assert windows(ranges([4, 2]), 2) == (range(0, 2), range(1, 3), range(2, 4), range(4, 6))


@properties
@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=8),
    st.integers(2, 3),
    st.integers(3, 12),
    st.floats(0.05, 0.6),
    st.integers(0, 1000),
)
def test_no_frame_is_in_both_parts(sizes, length, block, fraction, seed):
    runs = ranges(sizes)
    sequences = windows(runs, length)
    try:
        split = split_sequences(sequences, runs, fraction=fraction, block=block, seed=seed)
    except InputError:
        # Only where a part cannot have a sequence: too few blocks, or blocks of runs that are too short.
        assert (len(sizes) == 1 and sizes[0] < 2 * block) or min(sizes) < length
        return
    train, val = ({k for each in part for k in each} for part in (split.train, split.val))
    assert train.isdisjoint(val)
    assert set(split.train) | set(split.val) <= set(sequences)
    # Whole blocks: what meta-val has of a run comes in stretches of a block at least, or is the whole run.
    for run in runs:
        stretch = 0
        for k in [*run, -1]:
            if k in val:
                stretch += 1
            else:
                assert stretch == 0 or stretch >= min(block, len(run))
                stretch = 0
    # What is lost lies across a border.
    for each in set(sequences) - set(split.train) - set(split.val):
        assert 0 < sum(k in val for k in each) < length


def test_share_of_meta_val_on_runs_as_camvid_has_them():
    runs = ranges([62, 101, 68, 120, 16])
    sequences = windows(runs, 3)
    assert len(sequences) == 357
    seen = set()
    for seed in range(20):
        split = split_sequences(sequences, runs, seed=seed)
        frames = {k for each in split.val for k in each}
        assert 30 <= len(frames) <= 44
        assert len(split.train) + len(split.val) >= 357 - 4 * len(frames) // 10
        seen.add(frozenset(frames))
    assert len(seen) == 20
    assert split_sequences(sequences, runs, seed=3) == split_sequences(sequences, runs, seed=3)


def test_too_few_frames_to_split():
    runs = ranges([12])
    with pytest.raises(
        InputError, match="others to measure on, but got 10 and 0, from 1 blocks of at least 10"
    ):
        split_sequences(windows(runs, 3), runs)
    assert len(split_sequences(windows(runs, 3), runs, block=6).val) == 4
