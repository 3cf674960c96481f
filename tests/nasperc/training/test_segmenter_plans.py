"""The three trainings of segmentation by the one loop."""

import os
import signal
from functools import partial

import pytest
import torch
from video_checkpoint import MODEL, network, searched_cell

from nasperc.assembly.segmenter import build_static
from nasperc.data.normalisation import get_normalisation
from nasperc.training.checkpoint import load_checkpoint
from nasperc.training.loop import DivergedError, train
from nasperc.training.segmentation_recipe import StaticTrainingRecipe, VideoTrainingRecipe
from nasperc.training.segmenter_plans import cell_plan, end_to_end_plan, static_plan
from nasperc.training.training_run import TrainingRun

TF = get_normalisation("tf")
# Of the 4 triplets, and of the 8 frames.
RECIPE = VideoTrainingRecipe(
    cell={"epochs": 1.5, "batch_size": 2},
    end_to_end={"epochs": 1.5, "batch_size": 2, "static_learning_rate": 0.01},
    pad=None,
    checkpoint_every=2,
)
STATIC = StaticTrainingRecipe(epochs=1, batch_size=2, crop=(48, 64), checkpoint_every=3)


def plan_of(make, model, dataset, recipe=RECIPE):
    return make(model, dataset, recipe, normalisation=TF, seed=3, identity={"seed": 3})


def changed(model, before):
    """Names of the parts whose state differs."""
    after = model.state_dict()
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture
def make_video(videos):
    return partial(network, searched_cell(), len(videos.classes), (48, 64))


def test_the_first_phase_moves_the_cell_alone(make_video, videos):
    video = make_video()
    before, flags = state(video), [p.requires_grad for p in video.parameters()]
    plan = plan_of(cell_plan, video, videos)
    assert plan.settings.iterations == 3
    train(TrainingRun(video, plan, seed=3))
    assert changed(video, before) == {"cell"}
    assert [p.requires_grad for p in video.parameters()] == flags
    assert all(p.grad is None for p in video.static.parameters())


def test_the_second_phase_moves_everything_each_by_its_optimiser(make_video, videos):
    video = make_video()
    before = state(video)
    plan = plan_of(end_to_end_plan, video, videos)
    adam, sgd = plan.optimizers.state_dict()
    assert (adam["param_groups"][0]["lr"], sgd["param_groups"][0]["lr"]) == (4e-3, 0.01)
    assert "betas" in adam["param_groups"][0]
    assert sgd["param_groups"][0]["momentum"] == 0.9
    train(TrainingRun(video, plan, seed=3))
    assert changed(video, before) == {"static", "cell"}
    assert changed(
        video.static, {k.removeprefix("static."): v for k, v in before.items() if "static" in k}
    ) >= {
        "backbone",
        "decoder",
    }


def test_the_two_phases_see_other_batches_and_the_baseline_those_of_the_second(make_video, videos):
    video = make_video()
    cell, both = plan_of(cell_plan, video, videos), plan_of(end_to_end_plan, video, videos)
    baseline = plan_of(end_to_end_plan, video.static, videos)
    assert not torch.equal(cell.batches[0].images, both.batches[0].images)
    assert torch.equal(both.batches[0].images, baseline.batches[0].images)
    assert baseline.settings.iterations == both.settings.iterations


@pytest.mark.parametrize("make", [cell_plan, end_to_end_plan])
@pytest.mark.parametrize("stop", [1, 2])
def test_resumed_is_bit_identical(make_video, videos, tmp_path, make, stop):
    straight, losses = make_video(), []
    train(
        TrainingRun(straight, plan_of(make, straight, videos), seed=3),
        on_step=lambda _, terms: losses.append(terms),
    )
    path, again = tmp_path / "checkpoint.pt", []

    def interrupt(step, terms):
        again.append(terms)
        if step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    first = make_video()
    with pytest.raises(KeyboardInterrupt):
        train(TrainingRun(first, plan_of(make, first, videos), seed=3, checkpoint=path), on_step=interrupt)
    assert load_checkpoint(path)["step"] == stop
    torch.rand(5)
    second = make_video()
    result = train(
        TrainingRun(second, plan_of(make, second, videos), seed=3, checkpoint=path),
        on_step=lambda _, terms: again.append(terms),
    )
    assert result.resumed_at == stop
    assert again == losses
    assert changed(second, state(straight)) == set()


def test_pre_training_has_two_rates_and_lowers_the_loss(videos):
    torch.manual_seed(0)
    static = build_static(MODEL, len(videos.classes), load_weights=False, auxiliary=True)
    recipe = STATIC.model_copy(
        update={"epochs": 8.0, "flip": 0.0, "scales": (1.0, 1.0), "decoder_learning_rate": 0.05}
    )
    plan, losses = plan_of(static_plan, static, videos, recipe), []
    (sgd,) = plan.optimizers.state_dict()
    assert [group["lr"] for group in sgd["param_groups"]] == [5e-2, 5e-2]
    encoder, decoder = (len(group["params"]) for group in sgd["param_groups"])
    assert encoder == len(list(static.backbone.parameters()))
    assert encoder + decoder == len(list(static.parameters()))
    train(TrainingRun(static, plan, seed=0), on_step=lambda _, terms: losses.append(terms["segmentation"]))
    assert len(losses) == 32
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_divergence_names_the_keys(make_video, videos):
    recipe = RECIPE.model_copy(update={"cell": RECIPE.cell.model_copy(update={"learning_rate": 1e30})})
    video = make_video()
    with pytest.raises(DivergedError, match=r"Lower cell.learning_rate, or set gradient_clip"):
        train(TrainingRun(video, plan_of(cell_plan, video, videos, recipe), seed=3))
