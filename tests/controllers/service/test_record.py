from pathlib import Path

import pytest
from scripted import Bench, candidate, completed, events

from controllers.service import record


def test_what_was_told_is_in_the_journal_though_no_snapshot_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, number: int, state: object) -> tuple[str, str]:
        raise OSError(28, "No space left on device")

    service = Bench(tmp_path).open(snapshot_every=4)
    first = candidate(service.ask(0))
    monkeypatch.setattr(record, "write_snapshot", full)
    # After run_start, stage_start and proposal this is the fourth event.
    with pytest.raises(OSError, match="No space"):
        service.tell(0, first.id, completed(0.5))
    assert len(events(service, "completion")) == 1
    service.close()
    monkeypatch.undo()
    service = Bench(tmp_path).open(snapshot_every=4)
    assert service.status().completed == 1
    assert not events(service, "run_resume")[0]["diverged"]
    service.close()


def test_a_snapshot_stands_after_the_events_that_it_holds(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open(snapshot_every=4)
    service.tell(0, candidate(service.ask(0)).id, completed(0.5))
    written = [event["event"] for event in service.events_since(0)]
    assert written[-1] == "snapshot"
    assert written[-2] == "completion"
    service.close()
    resumed = bench.open(snapshot_every=4)
    assert events(resumed, "run_resume")[0]["snapshot"] is not None
    # What the snapshot holds is told to nobody again.
    assert bench.controller.told == [("observe", 0, 0.5)]
    resumed.close()
