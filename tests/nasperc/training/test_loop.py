import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nasperc.assembly.detector import Baseline, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.dataset import DetectionDataset
from nasperc.data.image_rules import ImageRules
from nasperc.data.normalisation import get_normalisation
from nasperc.errors import InputError
from nasperc.training.checkpoint import load_checkpoint
from nasperc.training.detection import detection_losses, train
from nasperc.training.loop import DivergedError
from nasperc.training.sampler import batch_indices

TF = get_normalisation("tf")


def states_equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def straight(make_detector, dataset, recipe, tmp_path):
    """An uninterrupted run: its network and its losses."""
    model, losses = make_detector(), []
    train(model, dataset, recipe, seed=5, normalisation=TF, on_step=lambda step, terms: losses.append(terms))
    return model, losses


def test_loss_falls(make_detector, dataset, recipe):
    totals = []
    longer = recipe.model_copy(
        update={"iterations": 24, "ema_decay": None, "flip": 0.0, "short_sides": (64,)}
    )
    model = make_detector()
    train(
        model,
        dataset,
        longer,
        seed=0,
        normalisation=TF,
        on_step=lambda _, terms: totals.append(sum(terms.values())),
    )
    assert sum(totals[-5:]) < 0.85 * sum(totals[:5])
    assert not model.training


def test_sizes_of_interest_are_scaled_by_the_recipe(make_detector, dataset, recipe):
    def first_losses(model, scale):
        seen = []
        changes = {"iterations": 1, "sizes_of_interest_scale": scale}
        train(
            model,
            dataset,
            recipe.model_copy(update=changes),
            seed=0,
            normalisation=TF,
            on_step=lambda _, terms: seen.append(terms),
        )
        return seen[0]

    by_hand = make_detector()
    sizes = tuple((low * 0.08, high * 0.08) for low, high in by_hand.preset.sizes_of_interest)
    by_hand.head.preset = by_hand.preset.model_copy(update={"sizes_of_interest": sizes})
    assert first_losses(make_detector(), 0.08) == first_losses(by_hand, 1.0)
    assert first_losses(make_detector(), 0.08) != first_losses(make_detector(), 1.0)


def test_batches_are_padded_to_the_divisor_of_the_model(make_detector, dataset, recipe):
    seen = set()

    def losses(model, batch):
        seen.add(tuple(batch.images.shape[-2:]))
        return detection_losses(model, batch)

    model = make_detector()
    model.divisor = 4
    small = recipe.model_copy(update={"short_sides": (48,)})
    train(model, dataset, small, seed=0, normalisation=TF, losses=losses)
    assert seen == {(48, 60)}


def with_crowd(dataset, **more):
    """Every image's first object as crowd."""
    records = [
        replace(record, crowd=np.arange(len(record.crowd)) == 0)
        for record in dataset.records
        if len(record.crowd) > 1
    ]
    return DetectionDataset(dataset.name, dataset.split, dataset.classes, records, **more)


@pytest.mark.parametrize(
    ("rule", "difficult", "kept"),
    [("ignore", False, True), ("background", False, False), ("background", True, True)],
)
@pytest.mark.parametrize("kind", ["fpn-fcos", "fpn-retinanet"])
def test_crowd_regions_are_ignored_or_left_out(dataset, recipe, tmp_path, kind, rule, difficult, kept):
    crowds = []

    def losses(model, batch):
        crowds.extend(sample.crowd for sample in batch.samples)
        return detection_losses(model, batch)

    def once(resume=False):
        torch.manual_seed(0)
        preset = {"preset_overrides": {"crowd": rule}}
        model = build_detector(
            ModelRecipe(backbone={"width_mult": 0.1}, **preset),
            Baseline(64, 64, 1, kind),
            len(dataset.classes),
        )
        data = with_crowd(dataset, difficult=difficult)
        short = recipe.model_copy(update={"iterations": 1, "checkpoint_every": 1})
        train(model, data, short, seed=0, normalisation=TF, losses=losses, checkpoint=path, resume=resume)

    path = tmp_path / "checkpoint.pt"
    once()
    assert len(crowds) >= 2
    assert all(crowd.any() == kept for crowd in crowds)
    # A checkpoint that was begun with crowd ignored is not continued where that makes a difference.
    content = load_checkpoint(path)
    assert content.pop("crowd", None) == (None if kept else "background")
    torch.save(content, path)
    if kept:
        once(resume=True)
    else:
        with pytest.raises(InputError, match="continued with the crowd"):
            once(resume=True)


@pytest.mark.parametrize("stop", [2, 3, 6])
def test_resumed_is_bit_identical(make_detector, dataset, recipe, tmp_path, straight, stop):
    """Ctrl-C in the middle (between checkpoints too), then the same call in a fresh network."""
    path, losses = tmp_path / "checkpoint.pt", []

    def interrupt(step, terms):
        losses.append(terms)
        if step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(make_detector(), dataset, recipe, seed=5, normalisation=TF, checkpoint=path, on_step=interrupt)
    assert load_checkpoint(path)["step"] == stop
    torch.rand(7)
    model = make_detector(seed=99)
    result = train(
        model,
        dataset,
        recipe,
        seed=5,
        normalisation=TF,
        checkpoint=path,
        on_step=lambda _, terms: losses.append(terms),
    )
    assert (result.resumed_at, result.iterations) == (stop, 6)
    assert losses == straight[1]
    assert states_equal(model.state_dict(), straight[0].state_dict())
    finished = load_checkpoint(path)
    assert finished["finished"]
    assert states_equal(finished["model"], model.state_dict())


def test_a_detector_hears_how_far_the_training_is(make_detector, dataset, recipe, tmp_path):
    """Before each iteration, and after an interruption where it goes on."""
    heard, model, stop = [], make_detector(), {"at": 2}
    model.on_progress = lambda fraction: heard.append((fraction, torch.initial_seed()))
    checkpoint = tmp_path / "checkpoint.pt"
    keys = {"seed": 5, "normalisation": TF, "checkpoint": checkpoint}

    def interrupt(step, _):
        if step == stop["at"]:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(model, dataset, recipe, **keys, on_step=interrupt)
    again = make_detector()
    again.on_progress = model.on_progress
    train(again, dataset, recipe, **keys)
    iterations = range(recipe.iterations)
    # The seed of the iteration, of which whatever is drawn is a function.
    assert heard == [(step / recipe.iterations, 5 * 1_000_003 + step) for step in iterations]


def test_signal_handlers_are_put_back(make_detector, dataset, recipe):
    before = signal.getsignal(signal.SIGINT)
    train(make_detector(), dataset, recipe, seed=0, normalisation=TF)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_crash_continues_from_the_last_checkpoint(make_detector, dataset, recipe, tmp_path, straight):
    path = tmp_path / "checkpoint.pt"

    def crash(step, terms):
        if step == 5:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        train(make_detector(), dataset, recipe, seed=5, normalisation=TF, checkpoint=path, on_step=crash)
    model = make_detector(seed=1)
    result = train(model, dataset, recipe, seed=5, normalisation=TF, checkpoint=path)
    assert result.resumed_at == 4
    assert states_equal(model.state_dict(), straight[0].state_dict())


def test_a_finished_one_is_loaded(make_detector, dataset, recipe, tmp_path, straight):
    path = tmp_path / "checkpoint.pt"
    train(make_detector(), dataset, recipe, seed=5, normalisation=TF, checkpoint=path)
    model, steps = make_detector(seed=3), []
    train(
        model,
        dataset,
        recipe,
        seed=5,
        normalisation=TF,
        checkpoint=path,
        on_step=lambda step, _: steps.append(step),
    )
    assert steps == []
    assert states_equal(model.state_dict(), straight[0].state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "the seed"),
        ({"description": {"decoder": "another"}}, "the decoder"),
        ({"recipe": {"learning_rate": 0.02}}, "the training.*learning_rate: 0.01 there, 0.02 now"),
        ({"normalisation": get_normalisation("caffe")}, "the normalisation"),
    ],
)
def test_another_recipe_is_not_continued(make_detector, dataset, recipe, tmp_path, change, message):
    path, recipe = tmp_path / "checkpoint.pt", recipe.model_copy(update={"iterations": 1})
    arguments = {"seed": 5, "normalisation": TF, "checkpoint": path, "description": {"decoder": "one"}}
    train(make_detector(), dataset, recipe, **arguments)
    change = dict(change)
    other = recipe.model_copy(update=change.pop("recipe", {}))
    with pytest.raises(InputError, match=message):
        train(make_detector(), dataset, other, **{**arguments, **change})


def test_images_read_by_other_rules_are_not_continued(make_detector, dataset, recipe, tmp_path):
    path, recipe = tmp_path / "checkpoint.pt", recipe.model_copy(update={"iterations": 1})
    arguments = {"seed": 0, "normalisation": TF, "checkpoint": path}
    train(make_detector(), dataset, recipe, **arguments)
    content = load_checkpoint(path)
    assert content["images"] == {"range": None, "exif": "ignore"}
    turned = DetectionDataset("x", "train", dataset.classes, dataset.records, rules=ImageRules(exif="apply"))
    with pytest.raises(InputError, match=r"the images that it was made with, but got exif: 'ignore' there"):
        train(make_detector(), turned, recipe, **arguments)
    # An older one, which does not say (and knows no bytes of images): as they are stored.
    del content["images"]
    torch.save({**content, "data": dataset.old_fingerprint()}, path)
    assert train(make_detector(), dataset, recipe, **arguments).resumed_at == 1
    with pytest.raises(InputError, match="the images that it was made with"):
        train(make_detector(), turned, recipe, **arguments)


@pytest.mark.parametrize(
    "found", [torch.zeros(2), {"learning_rate": torch.zeros(2), 3: 1}, ["cat", torch.ones(2)]]
)
def test_tensors_where_plain_values_belong_are_not_compared(make_detector, dataset, recipe, tmp_path, found):
    path, recipe = tmp_path / "checkpoint.pt", recipe.model_copy(update={"iterations": 1})
    train(make_detector(), dataset, recipe, seed=0, normalisation=TF, checkpoint=path)
    torch.save({**torch.load(path, weights_only=True), "training": found}, path)
    with pytest.raises(InputError, match="the training that it was made with"):
        train(make_detector(), dataset, recipe, seed=0, normalisation=TF, checkpoint=path)


def test_a_checkpoint_of_another_network(make_detector, dataset, recipe, tmp_path):
    path, recipe = tmp_path / "checkpoint.pt", recipe.model_copy(update={"iterations": 1})
    train(make_detector(), dataset, recipe, seed=0, normalisation=TF, checkpoint=path)
    model = make_detector()
    model.head.towers = nn.Identity()
    with pytest.raises(InputError, match="must fit the network"):
        train(model, dataset, recipe, seed=0, normalisation=TF, checkpoint=path)


@pytest.mark.parametrize("change", [{"step": -1}, {"step": 10**9}, {"seconds": float("nan")}])
def test_a_checkpoint_of_no_iteration_of_this_training(make_detector, dataset, recipe, tmp_path, change):
    path, recipe = tmp_path / "checkpoint.pt", recipe.model_copy(update={"iterations": 1})
    train(make_detector(), dataset, recipe, seed=0, normalisation=TF, checkpoint=path)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(InputError, match="must fit the network"):
        train(make_detector(), dataset, recipe, seed=0, normalisation=TF, checkpoint=path)


def first_tensor(values):
    """Of nested dicts and lists, the first that holds fractions."""
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    for value in inner:
        found = (
            value if isinstance(value, torch.Tensor) and value.is_floating_point() else first_tensor(value)
        )
        if found is not None and found.numel():
            return found
    return None


@pytest.mark.parametrize("part", ["model", "optimizer", "average"])
def test_a_checkpoint_that_is_not_finite(make_detector, dataset, recipe, tmp_path, part):
    path, common = tmp_path / "checkpoint.pt", {"seed": 0, "normalisation": TF}
    with pytest.raises(KeyboardInterrupt):
        train(
            make_detector(),
            dataset,
            recipe,
            **common,
            checkpoint=path,
            on_step=lambda *_: os.kill(os.getpid(), signal.SIGINT),
        )
    content = torch.load(path, weights_only=True)
    first_tensor(content[part])[..., 0] = float("nan")
    torch.save(content, path)
    with pytest.raises(
        InputError, match=rf"finite numbers, but got NaN or infinity in {part}.*Remove the file"
    ):
        train(make_detector(), dataset, recipe, **common, checkpoint=path)


def test_divergence_is_explained_and_loses_nothing(make_detector, dataset, recipe, tmp_path):
    path, calls = tmp_path / "checkpoint.pt", []

    def losses(model, batch):
        calls.append(0)
        terms = detection_losses(model, batch)
        return {**terms, "box": terms["box"] * (float("nan") if len(calls) == 4 else 1.0)}

    with pytest.raises(DivergedError, match=r"box nan.* in iteration 4 of 6.*learning_rate \(now 0\.01\)"):
        train(make_detector(), dataset, recipe, seed=0, normalisation=TF, checkpoint=path, losses=losses)
    kept = load_checkpoint(path)
    assert kept["step"] == 2
    assert all(torch.isfinite(value).all() for value in kept["model"].values())


def test_a_frozen_backbone_does_not_move(make_detector, dataset, recipe):
    model = make_detector()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    train(model, dataset, recipe.model_copy(update={"freeze_backbone": True}), seed=0, normalisation=TF)
    assert states_equal(model.backbone.state_dict(), before)


def test_frozen_batch_norm_stays_and_trainable_moves(make_detector, dataset, recipe):
    frozen, free = make_detector(frozen_bn=True), make_detector()
    before = {id(m): {k: v.clone() for k, v in m.backbone.state_dict().items()} for m in (frozen, free)}
    for model in (frozen, free):
        train(model, dataset, recipe, seed=0, normalisation=TF)
    names = [name for name in before[id(frozen)] if "running" in name]
    assert names
    assert all(torch.equal(frozen.backbone.state_dict()[n], before[id(frozen)][n]) for n in names)
    assert not all(torch.equal(free.backbone.state_dict()[n], before[id(free)][n]) for n in names)


def test_averaged_parameters_are_evaluated(make_detector, dataset, recipe):
    """The result is the exponential average, followed by hand."""
    model = make_detector()
    average = {name: p.detach().clone() for name, p in model.named_parameters()}

    def follow(step, terms):
        for name, p in model.named_parameters():
            average[name] = 0.5 * average[name] + 0.5 * p.detach()

    train(model, dataset, recipe, seed=0, normalisation=TF, on_step=follow)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), average[name])


def test_random_layers_are_resumed_exactly_and_global_random_numbers_left_alone(
    make_detector, dataset, recipe, tmp_path
):
    def detector():
        model = make_detector()
        model.neck = nn.Sequential(model.neck)
        model.neck.out = model.neck[0].out
        model.neck[0].lateral[0] = nn.Sequential(model.neck[0].lateral[0], nn.Dropout(0.5))
        return model

    plain = detector()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(plain, dataset, recipe, seed=0, normalisation=TF)
    assert torch.equal(torch.rand(3), expected)

    def crash(step, terms):
        if step == 3:
            raise RuntimeError

    path, resumed = tmp_path / "checkpoint.pt", detector()
    with pytest.raises(RuntimeError):
        train(detector(), dataset, recipe, seed=0, normalisation=TF, checkpoint=path, on_step=crash)
    train(resumed, dataset, recipe, seed=0, normalisation=TF, checkpoint=path)
    assert states_equal(plain.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("damaged_at", [2, 6])
def test_an_unreadable_image_loses_nothing(make_detector, dataset, recipe, tmp_path, straight, damaged_at):
    # The first image of the last batch: not read yet when the second iteration ends.
    path, file = tmp_path / "checkpoint.pt", dataset.records[batch_indices(5, 2, 5, 5)[0]].file
    original = file.read_bytes()

    def damage(step, terms):
        if step == damaged_at:
            file.write_bytes(original[:100])

    rare = recipe.model_copy(update={"checkpoint_every": 100})
    try:
        with pytest.raises(InputError, match="must be readable"):
            train(make_detector(), dataset, rare, seed=5, normalisation=TF, checkpoint=path, on_step=damage)
    finally:
        file.write_bytes(original)
    assert load_checkpoint(path)["step"] >= damaged_at
    model = make_detector(seed=9)
    train(model, dataset, rare, seed=5, normalisation=TF, checkpoint=path)
    assert states_equal(model.state_dict(), straight[0].state_dict())
