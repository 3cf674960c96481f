"""From a controller's draw to a candidate."""

from __future__ import annotations

from controllers.base import Candidate, Proposal
from controllers.service.candidate_events import candidate_to
from controllers.service.early_stop import early_stop_threshold
from controllers.service.plan import SearchPlan
from controllers.service.record import RunRecord
from controllers.service.seeds import derive_seed
from search_spaces.base import SearchSpace


def draw_candidate(run: RunRecord, space: SearchSpace, plan: SearchPlan, slot: int) -> Candidate | None:
    """One draw of the stage's controller, recorded: a candidate for ``slot``, or None when the draw was known,
    pending, failed or rejected."""
    stage, learner = run.state.stage, run.learner
    assert stage is not None
    assert learner is not None
    proposal = learner.propose()
    hash = space.hash(proposal.architecture)
    draw = {"proposal": proposal.id, "architecture": proposal.architecture.to_dict(), "hash": hash}
    if hash in stage.known:
        known = stage.known[hash]
        run.record("replay", **draw, of=known.id, reward=known.reward)
        learner.replayed(proposal.id, known.reward)
        return None
    pending = any(pending.candidate.hash == hash for pending in run.state.pending.values())
    if pending or hash in stage.failed or hash in stage.rejections.hashes:
        reason = "pending" if pending else "failed" if hash in stage.failed else "rejected"
        run.record("redraw", **draw, reason=reason)
        learner.drop(proposal.id)
        return None
    candidate = _candidate(run, space, plan, proposal, hash)
    run.record("proposal", **candidate_to(candidate), slot=slot, proposal=proposal.id)
    learner.hand_out(candidate.id, proposal.id)
    return candidate


def _candidate(
    run: RunRecord, space: SearchSpace, plan: SearchPlan, proposal: Proposal, hash: str
) -> Candidate:
    state = run.state
    assert state.stage is not None
    stage = space.stages()[state.stages_begun - 1]
    threshold = early_stop_threshold(
        state.stage.halfway, len(state.stage.known), plan.early_stop_k, plan.early_stop_minimum
    )
    return Candidate(
        id=state.next_id,
        stage=stage.name,
        architecture=proposal.architecture,
        widths=dict(stage.widths),
        hash=hash,
        seed=derive_seed(plan.seed, hash),
        threshold=threshold,
        overrides=dict(stage.overrides),
    )
