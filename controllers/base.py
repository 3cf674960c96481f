"""The contract of a controller, and what travels between service, worker and proxy task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel

from search_spaces.base import Architecture, TokenSpace

Status = Literal["completed", "stopped", "failed"]


@dataclass(frozen=True)
class Candidate:
    """An architecture to be measured.

    ``id``: unique in the run. ``widths``: channels by part, from the stage. ``hash``: canonical hash.
    ``seed``: derived from the run's seed and the hash, so the result is a function of (architecture, seed,
    threshold) alone. ``threshold``: stop when the half-way reward is below it; None = never. ``overrides``:
    the stage's proxy keys.
    """

    id: int
    stage: str
    architecture: Architecture
    widths: Mapping[str, int]
    hash: str
    seed: int
    threshold: float | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What became of a candidate.

    ``reward``: the final reward (completed), None otherwise. ``halfway``: the half-way reward if it was
    measured; of a stopped candidate it is what the controller observes. ``cost``: ``flops`` (MACs),
    ``params``; a metric or a cost that was not measured is None, one that is NaN or infinite makes the candidate
    a failure. ``reason``: of a failure. ``transient``: its cause may be the machine (out of memory, a hang, a
    device), so that another try may do better.
    """

    status: Status
    reward: float | None = None
    halfway: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    cost: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str | None = None
    transient: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the journal."""
        return asdict(self)


class Proposal(NamedTuple):
    """A controller's proposal; ids count up from 0 within one controller."""

    id: int
    architecture: Architecture


class Controller(ABC):
    """Proposes architectures and learns from rewards. Knows no network.

    A deterministic function of its seed and the order of the calls below: random numbers are drawn in
    ``propose`` and ``observe`` only, and ``state_dict`` holds everything that the next calls depend on.
    """

    Recipe: ClassVar[type[BaseModel]]

    @abstractmethod
    def __init__(self, tokens: TokenSpace, recipe: BaseModel, seed: int) -> None: ...

    @abstractmethod
    def propose(self) -> Proposal:
        """Draw an architecture; many proposals may be pending at once."""

    @abstractmethod
    def observe(self, proposal_id: int, reward: float) -> None:
        """The reward of a pending proposal (higher is better, finite)."""

    @abstractmethod
    def replayed(self, proposal_id: int, reward: float) -> None:
        """A pending proposal was known already, with this reward: it is drawn again, without an update."""

    @abstractmethod
    def fail(self, proposal_id: int) -> None:
        """A pending proposal failed, or equals a pending or failed one: forgotten, moves nothing."""

    @abstractmethod
    def observe_external(self, architecture: Architecture, reward: float) -> None:
        """A reward that was not proposed here (warm start)."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, loadable with ``torch.load(weights_only=True)``."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def diagnostics(self) -> dict[str, float]:
        """Scalars of the last update, for the live views (``baseline``, ``entropy``, ``approx_kl`` ...)."""
        return {}
