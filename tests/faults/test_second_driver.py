"""A run has one driver at a time."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

from command import Command, document
from conftest import MakeUndisturbed
from faulty_plugin import RELEASE
from tally import Tally


def test_a_second_driver_is_refused_by_name_until_the_first_is_gone(
    tmp_path: Path, tally: Tally, undisturbed: MakeUndisturbed
) -> None:
    home, recipe = tmp_path / "home", document(tmp_path / "notes", {"budget": "24"}, held=[5])
    with Command(home, recipe) as first:
        # It is at the sixth, which is held: nothing more is written.
        assert first.until(lambda: len(first.events("proposal")) == 6), first.said()
        content = first.journal.read_bytes()
        with Command(home, recipe) as second:
            assert second.finish() == 2
            # Words are wrapped where the line ends.
            said = " ".join(second.said().split())
        assert f"process {first.process.pid} on {socket.gethostname()} holds it" in said
        assert "Wait for it to end, or stop that process" in said
        assert first.journal.read_bytes() == content, "the refused driver wrote"
        # Ctrl-C, in the middle of a candidate.
        first.process.send_signal(signal.SIGINT)
        assert first.finish() != 0
        tally.fault("Ctrl-C")
        interrupted = first.events()
    # A lock file that names a process which is gone is taken over.
    lock = first.journal.with_name("journal.jsonl.lock")
    assert lock.read_text() == ""
    lock.write_text(json.dumps({"pid": first.process.pid, "host": socket.gethostname()}))
    (tmp_path / "notes" / RELEASE).touch()
    with Command(home, recipe) as third:
        assert third.finish() == 0, third.said()
    tally.ended(third.run, [interrupted], third.evaluations())
    tally.compare(third.run, undisturbed(recipe))
