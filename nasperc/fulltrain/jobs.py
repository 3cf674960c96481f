"""Which architectures are trained in full: the best found, others that the controller proposes, random ones."""

from __future__ import annotations

import numpy as np

from nasperc.assembly.detector import Searched
from nasperc.fulltrain.entries import parse_width, select
from nasperc.search.run_folder import RunFolder
from nasperc.search.sample import sample_controller
from nasperc.search.top10 import Top10File
from nasperc.tasks.row import Job

# The thesis trains two cells (6.4.2).
SAMPLED = 2


def entry_jobs(top10: Top10File, top: int | None, width: str | None) -> list[Job]:
    """The first ``top`` entries by rank, at their own widths or at ``width``.

    Raises:
        InputError: as :func:`select` and :func:`parse_width`.
    """
    widths = _widths(top10, width)
    jobs = []
    for entry in select(top10.entries, top):
        searched = Searched(top10.space, entry.architecture, widths or entry.widths)
        # The plain name is where `nasperc export` looks for trained weights of an entry.
        place = _place(f"rank{entry.rank:02d}", width)
        jobs.append(Job(f"rank {entry.rank}", place, searched, entry.rank, entry.hash, entry.reward))
    return jobs


def controller_jobs(top10: Top10File, count: int | None, width: str | None) -> list[Job]:
    """So many architectures (None: 2) that the trained controller of the run proposes.

    Raises:
        InputError: as :func:`sample_controller` and :func:`parse_width`.
    """
    widths = _widths(top10, width)
    jobs = []
    drawn = sample_controller(RunFolder(top10.path.parent), count or SAMPLED)
    for number, sample in enumerate(drawn, start=1):
        searched = Searched(top10.space, sample.architecture, widths or sample.widths)
        place = _place(f"controller-{sample.hash[:8]}", width)
        jobs.append(Job(f"sample {number}", place, searched, None, sample.hash, sample.reward))
    return jobs


def random_jobs(top10: Top10File, count: int, seed: int, width: str | None) -> list[Job]:
    """So many different architectures drawn at random: what the entries are better than, if the search has found
    anything. What the last stage did not search is that of the best entry; none is an entry itself.

    Raises:
        InputError: as :func:`parse_width`.
    """
    best, space, widths = top10.entries[0], top10.space, _widths(top10, width)
    free = {stage.name: stage.free for stage in space.stages()}[best.stage]
    rng = np.random.default_rng([seed, 1])
    known = {entry.hash for entry in top10.entries}
    jobs: list[Job] = []
    while len(jobs) < count:
        drawn = {part: space.sample(part, rng) for part in free}
        architecture = space.architecture({**best.architecture.parts, **drawn})
        hash = space.hash(architecture)
        if hash in known:
            continue
        known.add(hash)
        searched = Searched(space, architecture, widths or best.widths)
        jobs.append(Job(f"random {len(jobs) + 1}", _place(f"random-{hash[:8]}", width), searched, hash=hash))
    return jobs


def _widths(top10: Top10File, width: str | None) -> dict[str, int] | None:
    return None if width is None else parse_width(width, top10.space.parts)


def _place(name: str, width: str | None) -> str:
    return name if width is None else f"{name}-{width}"
