"""Architectures drawn from a whole search: of one stage, without repeats, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from controllers.journal import Journal
from nasperc.errors import InputError
from nasperc.search.recipe import Recipe
from nasperc.search.run import run_search
from nasperc.search.run_folder import RunFolder
from nasperc.search.sample import draw_sample
from nasperc.search.top10 import read_top10


@pytest.fixture
def run(tmp_path: Path, toy_recipe: Callable[..., Recipe], console: Console) -> RunFolder:
    """18 bodies and 6 heads."""
    return RunFolder(run_search(toy_recipe(), tmp_path / "runs" / "one", console=console).parent)


def test_good_and_bad_ones_of_the_largest_stage(run: RunFolder) -> None:
    file = read_top10(draw_sample(run, 12))
    assert len(file.entries) == 12
    assert {entry.stage for entry in file.entries} == {"body"}
    everything = read_top10(draw_sample(run, 18))
    best = {entry.hash for entry in everything.entries[:12]}
    assert best - {entry.hash for entry in file.entries}


def test_the_seed_decides(run: RunFolder) -> None:
    one, again = draw_sample(run, 5).read_bytes(), draw_sample(run, 5).read_bytes()
    assert one == again
    assert one != draw_sample(run, 5, seed=1).read_bytes()


def test_another_stage(run: RunFolder) -> None:
    assert {entry.stage for entry in read_top10(draw_sample(run, 3, stage="head")).entries} == {"head"}


@pytest.mark.parametrize(("count", "stage"), [(19, None), (1, None), (7, "head"), (3, "tail")])
def test_what_cannot_be_drawn(run: RunFolder, count: int, stage: str | None) -> None:
    with pytest.raises(InputError, match="body 18, head 6"):
        draw_sample(run, count, stage=stage)


def test_a_stage_of_the_journal_alone_names_no_file(run: RunFolder) -> None:
    events = Journal.read(run.journal)
    run.journal.unlink()
    journal = Journal(run.journal)
    outside = {"stage": "../../outside"}
    journal.append(*({**event, **outside} if event.get("stage") == "body" else event for event in events))
    journal.close()
    before = sorted(run.path.parent.parent.rglob("*.json"))
    assert {entry.stage for entry in read_top10(draw_sample(run, 3)).entries} == {"head"}
    assert sorted(run.path.parent.parent.rglob("*.json")) == sorted(
        [*before, run.path / "sample-head-3-0.json"]
    )
