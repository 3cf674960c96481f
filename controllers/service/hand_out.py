"""Which tries of pending candidates are given up, and which candidate a slot that asks gets again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controllers.service.state import Pending


class Lost(NamedTuple):
    """A try that ended without a result."""

    id: int
    slot: int
    reason: str


def lost_tries(pending: Mapping[int, Pending], slot: int, limit: float | None, now: float) -> list[Lost]:
    """What is given up when ``slot`` asks: what it owns, since its worker has died with it, and what is overdue.

    Args:
        pending: by id.
        slot: that asks.
        limit: seconds that a candidate may take; None: for ever.
        now: seconds that the run was at work.
    """
    lost = []
    for id, candidate in pending.items():
        if candidate.slot == slot:
            lost.append(Lost(id, slot, "its worker asked again: the process had died"))
        elif candidate.slot is not None and limit is not None and now - candidate.since > limit:
            lost.append(Lost(id, candidate.slot, f"no result within {limit:g} s"))
    return lost


def without_owner(pending: Mapping[int, Pending]) -> Pending | None:
    """The first candidate to be handed out again before anything new is proposed; None when there is none."""
    return next((candidate for candidate in pending.values() if candidate.slot is None), None)
