"""When a run pauses because most of its candidates fail, and what the failed ones share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from controllers.service.state import WINDOW, Outcome, RunState
from search_spaces.base import ORIGINAL, Architecture, SearchSpace

# "All or almost all" of the failed ones have it, and of the completed ones as few have not.
ALMOST_ALL = 0.9
MOST_NAMED = 3
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)


def most_fail(recent: Sequence[Outcome]) -> bool:
    """Whether more than half of the last 20 candidates failed; the eleventh failure decides, whatever the others
    will be. (A run of fewer candidates is over before it could be worth a pause.)"""
    return 2 * sum(outcome.failure is not None for outcome in recent) > WINDOW


def pause_values(state: RunState, space: SearchSpace) -> dict[str, Any]:
    """What the ``pause`` event says: the failed candidates, their most frequent reason, what sets them apart."""
    failed = [outcome for outcome in state.recent if outcome.failure is not None]
    others = {outcome.id: outcome.architecture for outcome in state.recent if outcome.failure is None}
    if state.stage is not None:
        others |= {best.id: best.architecture for best in state.stage.known.values()}
    common, count = _most_common([outcome.failure or "" for outcome in failed])
    error = (
        f"paused: {len(failed)} of the last {len(state.recent)} candidates failed, "
        f"{'all' if count == len(failed) else count} of them like this: {common}"
    )
    shared = _shared([outcome.architecture for outcome in failed], list(others.values()), space)
    if shared:
        error += f"; what they share, and those that were trained do not have: {', '.join(shared)}"
    return {
        "reason": "paused",
        "error": error,
        "failed": [outcome.id for outcome in failed],
        "common": common,
        "shared": shared,
    }


def _most_common(reasons: Sequence[str]) -> tuple[str, int]:
    """The most frequent reason, numbers aside (steps and losses differ), as it was told last."""
    kinds = [_NUMBER.sub("#", reason) for reason in reasons]
    ((kind, count),) = Counter(kinds).most_common(1)
    return next(reason for reason in reversed(reasons) if _NUMBER.sub("#", reason) == kind), count


def _shared(failed: Sequence[Architecture], others: Sequence[Architecture], space: SearchSpace) -> list[str]:
    """Choices that (almost) all failed architectures have made and (almost) none of the others."""
    if not others:
        return []
    those_failed = Counter(choice for architecture in failed for choice in _choices(architecture, space))
    the_others = Counter(choice for architecture in others for choice in _choices(architecture, space))
    most_failed, few_others = ALMOST_ALL * len(failed), (1 - ALMOST_ALL) * len(others)
    shared = [
        choice
        for choice, count in those_failed.items()
        if count >= most_failed and the_others[choice] <= few_others
    ]
    # What is anywhere in them says more than where it is.
    return sorted(shared, key=lambda choice: (" = " in choice, -those_failed[choice], choice))[:MOST_NAMED]


def _choices(architecture: Architecture, space: SearchSpace) -> set[str]:
    """Each decision with its choice (``fpn.block0.op = sep3x3``), and each choice of a kind (``op sep3x3``)."""
    choices = set()
    for part, tokens in architecture.parts.items():
        if tokens == ORIGINAL:
            continue
        for token, decision in zip(tokens, space.decisions(part), strict=True):
            choice = decision.choices[int(token)]
            choices |= {f"{decision.name} = {choice}", f"{decision.kind} {choice}"}
    return choices
