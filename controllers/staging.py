"""Beginning and ending the stages of a run."""

from __future__ import annotations

from controllers.candidate_events import summary
from controllers.learner import Learner
from controllers.plan import SearchPlan
from controllers.record import RunRecord
from controllers.resume import ControllerFactory
from controllers.seeds import derive_seed
from controllers.stage_rules import Bounds
from search_spaces.base import SearchSpace, Stage, TokenSpace


def start_stage(
    run: RunRecord, space: SearchSpace, plan: SearchPlan, factory: ControllerFactory, bounds: list[Bounds]
) -> None:
    """Begin the next stage, or end the run: after the last one, or when the one before completed nothing."""
    state = run.state
    if state.empty_stage is not None:
        message = (
            f"no candidate of the stage {state.empty_stage} was trained to its end "
            f"({state.failed} failed and {state.stopped} were stopped in this run); "
            f"last failure: {state.last_failure}"
        )
        run.record("run_end", reason="error", error=message)
        return
    if state.stages_begun == len(bounds):
        run.record("run_end", reason="budget", error=None)
        return
    _start(run, space, space.stages()[state.stages_begun], plan, factory, bounds[state.stages_begun])


def end_stage(run: RunRecord, reason: str) -> None:
    """End the stage; its best is what later stages build on."""
    assert run.state.stage is not None
    best = run.state.stage.best
    run.record("stage_end", reason=reason, best=None if best is None else summary(best))
    run.learner = None


def _start(
    run: RunRecord,
    space: SearchSpace,
    stage: Stage,
    plan: SearchPlan,
    factory: ControllerFactory,
    bounds: Bounds,
) -> None:
    tokens = TokenSpace(space, stage, run.state.best_parts)
    seed = derive_seed(plan.seed, "controller", stage.name)
    run.learner = Learner(factory(tokens, seed))
    run.record(
        "stage_start",
        stage=stage.name,
        free=list(stage.free),
        fixed=dict(tokens.fixed),
        widths=dict(stage.widths),
        overrides=dict(stage.overrides),
        seed=seed,
        bounds=bounds._asdict(),
    )
