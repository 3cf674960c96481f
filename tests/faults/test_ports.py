"""Nothing of a search on this machine, or of its full training, is reached from another one: the kernel is asked."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from command import alive, document, on_ray
from faulty_plugin import RELEASE
from listening_sockets import listening, reachable, with_descendants
from tally import Tally


@pytest.mark.ray
def test_no_port_is_open_to_other_machines_also_after_a_worker_was_killed(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    held = (4, 9)
    terms = {"executor": "ray", "workers": 1, "budget": "12", "dashboard": True}
    recipe = document(tmp_path / "notes", terms, seconds=0.1, held=held)
    with on_ray(tmp_path / "home", recipe) as search:

        def begun(id: int) -> list[int]:
            return [
                each["pid"] for each in search.evaluations() if each["what"] == "begin" and each["id"] == id
            ]

        def sockets() -> set[tuple[str, int]]:
            return listening(with_descendants(search.process.pid))

        assert search.until(lambda: begun(held[0])), search.said()
        assert len(sockets()) >= 8
        assert not reachable(sockets())
        interrupted = search.events()
        worker = begun(held[0])[0]
        os.kill(worker, signal.SIGKILL)
        tally.fault("worker killed, ports listed")
        assert search.until(lambda: not alive(worker))
        (tmp_path / "notes" / RELEASE).touch()
        assert search.until(lambda: begun(held[1])), search.said()
        # Of the worker that Ray has started since.
        assert not reachable(sockets())
        assert search.finish() == 0, search.said()
    tally.ended(search.run, [interrupted], search.evaluations())
