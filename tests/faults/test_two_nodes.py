"""A cluster of two nodes, of which one goes while the search runs."""

from __future__ import annotations

from pathlib import Path

from command import Command, document
from ray.cluster_utils import Cluster
from tally import Tally


def test_a_node_that_goes_takes_nothing_with_it(tmp_path: Path, tally: Tally, head: Cluster) -> None:
    """Each node has room for one slot. What the lost one was training is trained by the other, at once."""
    second = head.add_node(num_cpus=1)
    recipe = document(
        tmp_path / "notes",
        {"executor": "ray", "ray_address": head.address, "workers": 2, "budget": "30"},
        seconds=0.3,
    )
    with Command(tmp_path / "home", recipe) as search:
        # Both slots are at work.
        assert search.until(lambda: {event["slot"] for event in search.events("completion")} == {0, 1}), (
            search.said()
        )
        head.remove_node(second, allow_graceful=False)
        tally.fault("node removed")
        interrupted = search.events()
        assert search.finish() == 0, search.said()
    tally.ended(search.run, [interrupted], search.evaluations())
    assert len(search.events("completion")) == 30
    # At once: not after the hour that a candidate may take.
    assert not search.events("failure")
