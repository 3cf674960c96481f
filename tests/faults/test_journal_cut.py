"""A journal that a crash of the machine cut at any byte."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import pytest
from command import document
from conftest import MakeUndisturbed
from rich.console import Console
from tally import Tally

from controllers.service.journal import Journal
from nasperc.search.run import run_search


@pytest.mark.parametrize(
    ("controller", "cuts", "space"),
    [
        ("evolution", 5, "toy"),
        ("evolution", 2, "dynamic_cell"),
        pytest.param("random", 10, "toy", marks=pytest.mark.faults),
        pytest.param("ppo", 15, "toy", marks=pytest.mark.faults),
        pytest.param("tpe", 10, "toy", marks=pytest.mark.faults),
        pytest.param("surrogate", 10, "toy", marks=pytest.mark.faults),
        pytest.param("ppo", 10, "fcos_decoder", marks=pytest.mark.faults),
        pytest.param("ppo", 10, "dynamic_cell", marks=pytest.mark.faults),
    ],
)
def test_every_record_that_ends_before_the_cut_is_known_and_the_run_goes_on(
    controller: str,
    cuts: int,
    space: str,
    tmp_path: Path,
    tally: Tally,
    moments: random.Random,
    undisturbed: MakeUndisturbed,
) -> None:
    whole = undisturbed(document(tmp_path / "notes", {"budget": "40"}, controller, space))
    content = (whole / "journal.jsonl").read_bytes()
    events = Journal.read(whole / "journal.jsonl")
    for cut in [moments.randrange(1, len(content)) for _ in range(cuts)]:
        run = tmp_path / str(cut) / "run"
        shutil.copytree(whole, run)
        (run / "journal.jsonl").write_bytes(content[:cut])
        # They were written after what they name was on the disk, so a crash of the machine leaves older ones.
        for name in ("top10.json", "pareto.json"):
            (run / name).unlink()
        tally.fault("journal cut")
        # The last line may have lost its line feed alone.
        kept = content[: cut + 1].count(b"\n")
        before = Journal.read(run / "journal.jsonl")
        assert before == events[:kept], cut
        run_search(None, run, resume=True, console=Console(file=io.StringIO()))
        tally.ended(run, [before])
        tally.compare(run, whole)
