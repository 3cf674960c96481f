import pytest

from nasperc.errors import InputError
from nasperc.fulltrain.jobs import entry_jobs, random_jobs
from nasperc.search.top10 import read_top10


def test_entries_at_their_widths_or_at_others(top10):
    file = read_top10(top10)
    first, second = entry_jobs(file, None, None)
    assert (first.name, first.folder, first.rank, first.reward) == ("rank 1", "rank01", 1, -1.0)
    assert second.part.architecture == file.entries[1].architecture
    assert second.widths == {"fpn": 64, "head": 64}
    (wide,) = entry_jobs(file, 1, "128-256")
    assert (wide.folder, wide.widths) == ("rank01-128-256", {"fpn": 128, "head": 256})


def test_random_ones_differ_in_what_the_last_stage_searched(top10):
    file = read_top10(top10)
    jobs = random_jobs(file, 4, 0, None)
    assert [job.name for job in jobs] == ["random 1", "random 2", "random 3", "random 4"]
    assert len({job.hash for job in jobs} | {entry.hash for entry in file.entries}) == 6
    best = file.entries[0].architecture.parts
    assert all(job.part.architecture.parts["fpn"] == best["fpn"] for job in jobs)
    assert len({job.part.architecture.parts["head"] for job in jobs}) == 4
    assert all(job.rank is None and job.reward is None and job.widths == first_widths(file) for job in jobs)
    assert random_jobs(file, 2, 0, None) == jobs[:2]
    assert random_jobs(file, 1, 1, None)[0].hash not in {job.hash for job in jobs}
    assert random_jobs(file, 0, 0, None) == []


def first_widths(file):
    return dict(file.entries[0].widths)


def test_a_width_that_is_none(top10):
    with pytest.raises(InputError, match="a multiple of 32"):
        random_jobs(read_top10(top10), 1, 0, "33")
