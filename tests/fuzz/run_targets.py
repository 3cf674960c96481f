"""Readers of what a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from target import CSV, Read, dump


def _table(folder: Path) -> Any:
    from search_spaces.table import TableRecipe, TableSpace

    (folder / "scores.csv").write_bytes(CSV)
    return TableSpace(TableRecipe(file=folder / "scores.csv"))


def _service(folder: Path, space: Any) -> Any:
    from controllers.random_search import RandomController, RandomRecipe
    from controllers.service.plan import SearchPlan
    from controllers.service.service import ControllerService

    def make(tokens: Any, seed: int) -> RandomController:
        return RandomController(tokens, RandomRecipe(), seed)

    return ControllerService(folder, space, make, SearchPlan(seed=1, candidates=3, snapshot_every=4))


def _searched(folder: Path) -> Path:
    """A run folder with a journal and a snapshot, in the middle of a stage."""
    from controllers.base import Candidate, Result

    service = _service(folder, _table(folder))
    for number in range(2):
        candidate = service.ask(0)
        assert isinstance(candidate, Candidate)
        result = Result(
            "completed", 0.25 * number, 0.1, metrics={"ap": 0.5}, cost={"flops": 5.0}, seconds=2.0
        )
        service.tell(0, candidate.id, result)
    service.ask(0)
    service.close()
    return folder


def searched_file(pattern: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        return next(iter(sorted(_searched(Path(name)).glob(pattern)))).read_bytes()


def open_journal(folder: Path) -> Read:
    """A resumed run, its report and its live views."""
    from controllers.service.journal import Journal
    from nasperc.errors import InputError
    from nasperc.report.reward_curve import reward_curves

    space = _table(folder)

    def read(data: bytes) -> None:
        (folder / "journal.jsonl").write_bytes(data)
        problem = None
        try:
            _service(folder, space).close()
        except InputError as error:
            problem = error
        reward_curves(Journal.read(folder / "journal.jsonl"))
        if problem is not None:
            raise problem

    return read


def open_snapshot(folder: Path) -> Read:
    import hashlib

    from controllers.service.snapshot import read_snapshot

    def read(data: bytes) -> None:
        (folder / "controller-1.pt").write_bytes(data)
        assert read_snapshot(folder, "controller-1.pt", hashlib.sha256(data).hexdigest()) is not None

    return read


def open_results(folder: Path) -> Read:
    """``metrics.json`` of a row of full training."""
    from nasperc.evaluation.latency import device_name
    from nasperc.fulltrain.entry_run import _latency_before, _measured_before, _read_row
    from nasperc.fulltrain.results import Results, to_markdown
    from nasperc.tasks.detection.tables import CocoTables
    from nasperc.tasks.row import Row

    class Split:
        def fingerprint(self) -> str:
            return "f"

    def read(data: bytes) -> None:
        data = data.replace(b"DEVICE", json.dumps(device_name())[1:-1].encode())
        (folder / "metrics.json").write_bytes(data)
        row = _read_row(folder / "metrics.json")
        metrics = _measured_before(row, {"val": Split()}, CocoTables())  # type: ignore[dict-item]
        latency = _latency_before(row, (800, 1088))
        shown = Row("a", "done", 1, "h", {}, None, 0.5, 1, 1, (800, 1088), metrics=metrics, latency=latency)
        to_markdown(Results((shown,), "val", "val", CocoTables())) if metrics else None

    return read


def results_seeds() -> list[bytes]:
    from dataclasses import fields

    from nasperc.evaluation.coco_ap import CocoMetrics

    metrics: dict[str, Any] = {each.name: 0.5 for each in fields(CocoMetrics)} | {"per_class": {"cat": 0.5}}
    times = {"median_s": 0.5, "fastest_s": 0.4, "slowest_s": 0.6, "runs": 5, "device": "DEVICE", "threads": 1}
    times["core_share"] = 0.5
    row = {
        "metrics": {"val": metrics},
        "measured_on": {"val": "f"},
        "cost_size": [800, 1088],
        "latency": times,
    }
    return [dump(row)]


def open_lock(folder: Path) -> Read:
    from nasperc.file_lock import FileLock

    def read(data: bytes) -> None:
        (folder / "lock").write_bytes(data)
        FileLock(folder / "lock", "one at a time", "take it over").release()

    return read
