"""Beginning and ending the stages of a run."""

from __future__ import annotations

from controllers.service.candidate_events import summary
from controllers.service.learner import Learner
from controllers.service.plan import SearchPlan
from controllers.service.record import RunRecord
from controllers.service.resume import ControllerFactory
from controllers.service.seeds import derive_seed
from controllers.service.stage_rules import Bounds
from controllers.service.warm_start import WarmStart
from search_spaces.base import SearchSpace, Stage, TokenSpace


def start_stage(
    run: RunRecord, space: SearchSpace, plan: SearchPlan, factory: ControllerFactory, bounds: list[Bounds]
) -> None:
    """Begin the next stage, or end the run: after the last one, or when the one before completed nothing."""
    state = run.state
    if state.empty_stage is not None:
        message = (
            f"no candidate of the stage {state.empty_stage.name} was trained to its end "
            f"({state.failed} failed and {state.stopped} were stopped in this run); "
            f"last failure: {state.last_failure}"
        )
        rejections = state.empty_stage.rejections
        if rejections.hashes:
            limits = rejections.describe(plan.limits.amounts)
            message = f"{message}; {len(rejections.hashes)} architectures were rejected ({limits})"
        run.record("run_end", reason="error", error=message)
        return
    if state.stages_begun == len(bounds):
        run.record("run_end", reason="budget", error=None)
        return
    _start(run, space, space.stages()[state.stages_begun], plan, factory, bounds[state.stages_begun])


def warm_up(run: RunRecord, space: SearchSpace, warm_start: WarmStart) -> None:
    """Let the controller of a stage that has begun learn from other runs, before it proposes anything.

    What the journal has already (the event that says that this is done was cut off) is left out.
    """
    state, learner = run.state.stage, run.learner
    assert state is not None
    assert learner is not None
    stage = space.stages()[run.state.stages_begun - 1]
    fixed = TokenSpace(space, stage, run.state.best_parts).fixed
    evaluations, skipped = warm_start.evaluations(stage, fixed)
    for each in evaluations:
        if (each.run, each.of) in state.externals:
            continue
        architecture = each.architecture.to_dict()
        run.record("external", architecture=architecture, reward=each.reward, run=each.run, of=each.of)
        learner.observe_external(each.architecture, each.reward)
    run.record("warm_start", evaluations=len(state.externals), skipped=skipped)
    run.record_update()


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
