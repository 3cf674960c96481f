"""Which pending candidates are given up, and which one a slot that asks gets again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controllers.state import Pending


class Lost(NamedTuple):
    """A pending candidate that was handed out twice without a result."""

    id: int
    slot: int | None
    reason: str


class Again(NamedTuple):
    """A pending candidate that is handed out again."""

    id: int
    reason: str


def lost_candidates(pending: Mapping[int, Pending], slot: int, limit: float | None, now: float) -> list[Lost]:
    """What is failed when ``slot`` asks: its worker has died with it twice, or it is overdue twice.

    Args:
        pending: by id.
        slot: that asks.
        limit: seconds that a candidate may take; None: for ever.
        now: seconds since the epoch.
    """
    lost = []
    for id, candidate in pending.items():
        if candidate.handed < 2:
            continue
        if candidate.slot == slot:
            lost.append(Lost(id, slot, "its worker asked again twice: it died or hung"))
        elif _overdue(candidate, limit, now):
            lost.append(Lost(id, candidate.slot, f"no result within {limit:g} s, twice"))
    return lost


def candidate_again(
    pending: Mapping[int, Pending], slot: int, limit: float | None, now: float
) -> Again | None:
    """What ``slot`` gets before anything new is proposed; arguments as in :func:`lost_candidates`.

    Its own candidate first, so that it never owns two; then those without an owner and those overdue.
    """
    for id, candidate in sorted(pending.items(), key=lambda item: item[1].slot != slot):
        if candidate.slot == slot:
            return Again(id, "its worker asked again")
        if candidate.slot is None:
            return Again(id, "the run was resumed")
        if _overdue(candidate, limit, now):
            return Again(id, f"no result within {limit:g} s")
    return None


def _overdue(candidate: Pending, limit: float | None, now: float) -> bool:
    return candidate.slot is not None and limit is not None and now - candidate.since > limit
