"""A cluster of two nodes, of which one goes while the search runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import Command, alive, document
from faulty_plugin import RELEASE
from ray.cluster_utils import Cluster
from tally import Tally


@pytest.mark.ray
def test_a_node_that_goes_takes_nothing_with_it(tmp_path: Path, tally: Tally, head: Cluster) -> None:
    """Each node has room for one slot. What the lost one was training is trained by the other, at once."""
    second = head.add_node(num_cpus=1)
    held = (10, 11)
    terms = {"executor": "ray", "ray_address": head.address, "workers": 2, "budget": "30"}
    recipe = document(tmp_path / "notes", terms, seconds=0.3, held=held)
    with Command(tmp_path / "home", recipe) as search:
        # Both slots are in the middle of a candidate.
        assert search.until(lambda: len(begun(search, held)) == 2), search.said()
        interrupted = search.events()
        head.remove_node(second, allow_graceful=False)
        tally.fault("node removed")
        assert search.until(lambda: not all(alive(note["pid"]) for note in begun(search, held))), (
            search.said()
        )
        (tmp_path / "notes" / RELEASE).touch()
        assert search.finish() == 0, search.said()
    tally.ended(search.run, [interrupted], search.evaluations())
    assert len(search.events("completion")) == 30
    # At once: not after the hour that a candidate may take.
    (retry,) = search.events("retry")
    assert retry["id"] in held
    assert retry["reason"] == "its worker's process died"


def begun(search: Command, ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """The first evaluation of each of these candidates that has begun."""
    notes = reversed(search.evaluations())
    first = {note["id"]: note for note in notes if note["what"] == "begin" and note["id"] in ids}
    return list(first.values())
