"""Candidates and architectures as the journal's events (:mod:`controllers.service.state`) hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controllers.base import Candidate
from controllers.service.answers import Best
from search_spaces.base import Architecture, SearchSpace


def summary(best: Best) -> dict[str, Any]:
    """What an event says of a stage's best."""
    return {
        "id": best.id,
        "reward": best.reward,
        "hash": best.hash,
        "architecture": best.architecture.to_dict(),
    }


def candidate_to(candidate: Candidate) -> dict[str, Any]:
    """What an event says of a candidate."""
    return {
        "id": candidate.id,
        "architecture": candidate.architecture.to_dict(),
        "hash": candidate.hash,
        "seed": candidate.seed,
        "widths": dict(candidate.widths),
        "threshold": candidate.threshold,
        "overrides": dict(candidate.overrides),
    }


def candidate_from(event: Mapping[str, Any], space: SearchSpace) -> Candidate:
    """The candidate of a proposal event, its architecture validated."""
    return Candidate(
        id=event["id"],
        stage=event["stage"],
        architecture=architecture_from(event, space),
        widths=event["widths"],
        hash=event["hash"],
        seed=event["seed"],
        threshold=event["threshold"],
        overrides=event["overrides"],
    )


def architecture_from(event: Mapping[str, Any], space: SearchSpace) -> Architecture:
    """The architecture of an event, validated."""
    return space.from_dict(event["architecture"], where=f"the journal, candidate {event.get('id', '-')}")
