"""A disk that is full, or a file that must not grow, while a search runs."""

from __future__ import annotations

import random
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import Command, document
from conftest import MakeUndisturbed
from tally import Tally

KIB = 1024


def check_full(search: Command) -> None:
    """It ended by itself, with one line that says what to do."""
    assert search.finish() == 2, search.said()
    said = " ".join(search.said().split())
    assert "Traceback" not in said, said
    assert "error:" in said
    assert "Free" in said, said
    assert "resume" in said


@pytest.mark.parametrize("limits", [1, pytest.param(6, marks=pytest.mark.faults)])
def test_a_file_that_cannot_grow_loses_nothing(
    limits: int, tmp_path: Path, tally: Tally, moments: random.Random, undisturbed: MakeUndisturbed
) -> None:
    """Which file is too large first, journal, snapshot or ``top10.json``, depends on the limit."""
    home, recipe = tmp_path / "home", document(tmp_path / "notes", {"budget": "60"}, "evolution")
    whole = undisturbed(recipe)
    size = (whole / "journal.jsonl").stat().st_size
    interruptions, least = [], 3 * KIB
    for _ in range(limits):
        limit = moments.randrange(least, size - KIB)
        with Command(home, recipe, preexec_fn=lambda limit=limit: _forbid_growth(limit)) as search:
            check_full(search)
            interruptions.append(search.events())
        tally.fault("file too large")
        least = max(least, search.journal.stat().st_size)
    with Command(home, recipe) as search:
        assert search.finish() == 0, search.said()
    tally.ended(search.run, interruptions, search.evaluations())
    tally.compare(search.run, whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A file system in memory, and what changes its size; the test is skipped where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    # Enough for the recipe and the beginning of a journal.
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")

    def resize(kib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kib}k", disk], check=True)

    yield disk, resize
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.faults
@pytest.mark.parametrize("times", [8])
def test_a_full_disk_loses_nothing(
    times: int,
    tmp_path: Path,
    small_disk: tuple[Path, Callable[[int], None]],
    tally: Tally,
    moments: random.Random,
    undisturbed: MakeUndisturbed,
) -> None:
    disk, resize = small_disk
    recipe = document(tmp_path / "notes", {"budget": "60"}, "evolution")
    whole = undisturbed(recipe)
    interruptions, kib = [], 64
    for _ in range(times):
        with Command(disk, recipe) as search:
            check_full(search)
            interruptions.append(search.events())
        tally.fault("disk full")
        kib += moments.randrange(4, 16)
        resize(kib)
    resize(4096)
    with Command(disk, recipe) as search:
        assert search.finish() == 0, search.said()
    tally.ended(search.run, interruptions, search.evaluations())
    tally.compare(search.run, whole)


def _forbid_growth(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
