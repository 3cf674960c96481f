"""The controller of a stage, and which of its proposals the pending candidates are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controllers.base import Controller, Proposal
from controllers.service.measured import finite_values
from search_spaces.base import Architecture


class Learner:
    """One stage's controller, told of candidates by their ids in the run.

    A candidate that the controller did not propose itself (a resumed one may have drawn otherwise) has no
    proposal: what it earned is observed as if from outside, and that it failed does not concern the controller.
    """

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self._proposals: dict[int, int | None] = {}

    def propose(self) -> Proposal:
        """The controller's next draw; :meth:`hand_out`, :meth:`replayed` or :meth:`drop` tells what became of it."""
        return self.controller.propose()

    def hand_out(self, id: int, proposal: int | None) -> None:
        """Candidate ``id`` of the run is this proposal, or none of this controller's."""
        self._proposals[id] = proposal

    def replayed(self, proposal: int, reward: float) -> None:
        """A draw that was known already."""
        self.controller.replayed(proposal, reward)

    def drop(self, proposal: int) -> None:
        """A draw that becomes no candidate."""
        self.controller.fail(proposal)

    def observe(self, id: int, architecture: Architecture, reward: float) -> None:
        """What a candidate earned."""
        proposal = self._proposals.pop(id)
        if proposal is None:
            self.controller.observe_external(architecture, reward)
        else:
            self.controller.observe(proposal, reward)

    def observe_external(self, architecture: Architecture, reward: float) -> None:
        """A reward that is no candidate's."""
        self.controller.observe_external(architecture, reward)

    def fail(self, id: int) -> None:
        """A candidate failed: it moves nothing."""
        proposal = self._proposals.pop(id)
        if proposal is not None:
            self.controller.fail(proposal)

    def rewards_per_update(self) -> int:
        """See :meth:`Controller.rewards_per_update`."""
        return self.controller.rewards_per_update()

    def diagnostics(self) -> dict[str, float | None]:
        """Scalars of the last update."""
        return finite_values(self.controller.diagnostics())

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"controller": self.controller.state_dict(), "proposals": dict(self._proposals)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        self._proposals = dict(state["proposals"])
