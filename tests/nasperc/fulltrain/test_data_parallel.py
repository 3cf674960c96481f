"""Two workers of Ray Train against one process: real Ray, gloo, a tiny FPN-FCOS. One Ray for all tests here."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from listening_sockets import listening, reachable, with_descendants
from rich.console import Console

from nasperc.assembly.detector import Baseline, build_detector
from nasperc.data.formats import open_dataset
from nasperc.data.normalisation import get_normalisation
from nasperc.data.synthetic import write_synthetic
from nasperc.errors import InputError
from nasperc.fulltrain.data_parallel import DataParallel, data_parallel
from nasperc.fulltrain.run import fulltrain
from nasperc.recipe.reading import parse_recipe
from nasperc.tasks.detection.trained import describe
from nasperc.tasks.detection.training import ON_CPU
from nasperc.tasks.lookup import recipe_task
from nasperc.tasks.row import Job
from nasperc.training.checkpoint import load_checkpoint
from nasperc.training.detection import detection_plan
from nasperc.training.loop import train
from nasperc.training.sampler import batch_indices
from nasperc.training.training_run import TrainingRun

pytestmark = pytest.mark.ray
STEPS = 10
DECODER = Baseline(32, 32, 1)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Frozen BatchNorm and GroupNorm; images of several sizes, three to a batch: unequal parts, with padding."""
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    write_synthetic(folder, images={"train": 24, "val": 1}, size=(64, 80), formats=("coco",))
    document = {
        "data": {"path": str(folder)},
        "model": {"backbone": {"width_mult": 0.1, "frozen_bn": True}},
        "fulltrain": {
            "iterations": STEPS,
            "batch_size": 3,
            "short_sides": [32, 64],
            "max_long_side": 96,
            "warmup_iterations": 2,
            "gradient_clip": 1.0,
            "ema_decay": 0.5,
            "checkpoint_every": 100,
        },
    }
    return parse_recipe(document, where="test")


@pytest.fixture(scope="module")
def dataset(recipe):
    return open_dataset(recipe.data.path, "train")


@pytest.fixture(scope="module")
def others():
    """Sockets that this process and its children had before: of other tests' clusters."""
    return reachable(listening(with_descendants(os.getpid())))


@pytest.fixture(scope="module")
def two_workers(recipe, tmp_path_factory, others):
    with data_parallel(recipe, tmp_path_factory.mktemp("prepared"), workers=2) as parallel:
        yield parallel


def trained(recipe, dataset, checkpoint, *, losses, workers=None, on_step=lambda step: None):
    """The network after training; ``losses`` gets the terms of each iteration done."""

    def record(step, terms):
        losses[step] = terms
        on_step(step)

    torch.manual_seed(recipe.seed)
    model = build_detector(recipe.model, DECODER, len(dataset.classes))
    description = describe(recipe.model, DECODER, recipe.space)
    plan = detection_plan(
        model,
        dataset,
        recipe.fulltrain,
        seed=recipe.seed,
        normalisation=get_normalisation("imagenet"),
        description=description,
    )
    run = TrainingRun(model, plan, seed=recipe.seed, checkpoint=checkpoint)
    elsewhere = None
    if workers is not None:
        elsewhere = partial(workers.train, description, checkpoint, dataset.fingerprint())
    train(run, on_step=record, elsewhere=elsewhere)
    return model


@pytest.fixture(scope="module")
def alone(recipe, dataset, tmp_path_factory):
    """One process, undisturbed."""
    losses = {}
    model = trained(recipe, dataset, tmp_path_factory.mktemp("alone") / "checkpoint.pt", losses=losses)
    return losses, model


def assert_same(losses, model, alone):
    """Losses to 1e-5 relative, and the network that is evaluated."""
    wanted_losses, wanted_model = alone
    assert list(losses) == list(range(1, STEPS + 1))
    for step, terms in losses.items():
        assert terms == pytest.approx(wanted_losses[step], rel=1e-5), step
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, wanted_model.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_two_workers_have_the_losses_of_one_process(recipe, dataset, tmp_path, alone, two_workers):
    losses = {}
    model = trained(recipe, dataset, tmp_path / "checkpoint.pt", losses=losses, workers=two_workers)
    assert_same(losses, model, alone)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["finished"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_nothing_of_it_is_reached_from_other_machines(recipe, dataset, tmp_path, two_workers, others):
    """Once the workers have exchanged gradients: Ray's processes, theirs, and torch's sockets between them."""
    found = {}

    def look(step):
        if step == 2:
            found[True] = listening(with_descendants(os.getpid()))
            found[False] = {pid: listening({pid}) for pid in workers_of_ray()}

    trained(recipe, dataset, tmp_path / "checkpoint.pt", losses={}, workers=two_workers, on_step=look)
    # gloo's, beside the one of Ray.
    assert [len(sockets) >= 2 for sockets in found[False].values()] == [True, True]
    assert reachable(found[True]) <= others


def test_one_process_continues_after_two_that_met_an_unreadable_image(
    recipe, dataset, tmp_path, alone, two_workers
):
    # In no batch before the seventh, and there the second worker's.
    file = dataset.records[batch_indices(len(dataset), 3, recipe.seed, step=6)[2]].file
    original, checkpoint, losses = file.read_bytes(), tmp_path / "checkpoint.pt", {}
    file.write_bytes(original[:100])
    try:
        with pytest.raises(InputError, match=rf"must be readable.*{re.escape(file.name)}"):
            trained(recipe, dataset, checkpoint, losses=losses, workers=two_workers)
    finally:
        file.write_bytes(original)
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    assert load_checkpoint(checkpoint)["step"] == 6
    assert_same(losses, trained(recipe, dataset, checkpoint, losses=losses), alone)


def test_a_segmenter_has_the_losses_of_one_process_and_continues_in_one(recipe, tmp_path, two_workers):
    """Masks of objects, the bottom module, attentions: to the unreadable image with two, then with one."""
    changes = {
        "task": {
            "name": f"{Path(__file__).with_name('frozen_blendmask.py')}:Frozen",
            "blendmask": {"region": 14, "attention": 7, "bottom": {"name": "protonet", "width": 16}},
        }
    }
    recipe = parse_recipe({**recipe.to_dict(), **changes}, where="test")
    training = recipe_task(recipe).Training(recipe, tmp_path, recipe, None)
    workers, wanted, losses = DataParallel(recipe, tmp_path, 2), {}, {}
    alone = trained_by_task(training, tmp_path / "alone.pt", losses=wanted)
    assert wanted[STEPS]["mask"] > 0
    dataset = training.splits["train"]
    file = dataset.records[batch_indices(len(dataset), 3, recipe.seed, step=6)[2]].file
    original = file.read_bytes()
    file.write_bytes(original[:100])
    try:
        with pytest.raises(InputError, match=rf"must be readable.*{re.escape(file.name)}"):
            trained_by_task(training, tmp_path / "checkpoint.pt", losses=losses, workers=workers)
    finally:
        file.write_bytes(original)
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    model = trained_by_task(training, tmp_path / "checkpoint.pt", losses=losses)
    assert_same(losses, model, (wanted, alone))


def trained_by_task(training, checkpoint, *, losses, workers=None):
    """The network of a task, after training; ``losses`` as of :func:`trained`."""
    job, seed = Job("", "", DECODER), training.recipe.seed
    torch.manual_seed(seed)
    model, _ = training.build(job)
    ((_, plan),) = training.phases(model, job)
    run = TrainingRun(model, plan, seed=seed, checkpoint=checkpoint)
    elsewhere = None
    if workers is not None:
        data = training.splits["train"].fingerprint()
        elsewhere = partial(workers.train, training.describe(job), checkpoint, data)
    train(run, on_step=losses.__setitem__, elsewhere=elsewhere)
    return model


def test_two_workers_continue_after_ctrl_c(recipe, dataset, tmp_path, two_workers):
    longer = recipe.model_copy(update={"fulltrain": recipe.fulltrain.model_copy(update={"iterations": 2000})})
    workers, checkpoint, losses = DataParallel(longer, tmp_path, 2), tmp_path / "checkpoint.pt", {}

    def ctrl_c(step):
        # A second one would not wait for the checkpoint.
        if step == min(losses) or step == stopped + 1:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = 0
    with pytest.raises(KeyboardInterrupt):
        trained(longer, dataset, checkpoint, losses=losses, workers=workers, on_step=ctrl_c)
    stopped = load_checkpoint(checkpoint)["step"]
    assert list(losses) == list(range(1, stopped + 1))
    assert stopped < 2000
    with pytest.raises(KeyboardInterrupt):
        trained(longer, dataset, checkpoint, losses=losses, workers=workers, on_step=ctrl_c)
    assert load_checkpoint(checkpoint)["step"] == len(losses) > stopped


def test_a_worker_that_is_killed_costs_the_iterations_since_the_checkpoint(
    recipe, dataset, tmp_path, two_workers
):
    """Through the restart, the losses are those of a training that was not disturbed."""
    changes = {"iterations": 60, "checkpoint_every": 5}
    longer = recipe.model_copy(update={"fulltrain": recipe.fulltrain.model_copy(update=changes)})
    wanted, losses, killed = {}, {}, []
    trained(longer, dataset, tmp_path / "alone.pt", losses=wanted)

    def kill(step):
        if not killed and step >= 10:
            killed.append(workers_of_ray()[-1])
            os.kill(killed[0], signal.SIGKILL)

    workers = DataParallel(longer, tmp_path, 2)
    trained(longer, dataset, tmp_path / "checkpoint.pt", losses=losses, workers=workers, on_step=kill)
    assert killed
    assert list(losses) == list(wanted)
    for step, terms in wanted.items():
        assert losses[step] == pytest.approx(terms, rel=1e-4), step


def workers_of_ray():
    """Process ids of the workers that train now, by their titles."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::RayTrainWorker"):
                found.append(int(path.parent.name))
    return sorted(found)


def test_divergence_in_the_workers_is_the_same_error(recipe, dataset, tmp_path, two_workers):
    changes = {"learning_rate": 1e30, "gradient_clip": None, "warmup_iterations": 0}
    wild = recipe.model_copy(update={"fulltrain": recipe.fulltrain.model_copy(update=changes)})
    with pytest.raises(InputError, match="a training loss must be finite"):
        trained(wild, dataset, tmp_path / "checkpoint.pt", losses={}, workers=DataParallel(wild, tmp_path, 2))


def test_the_command_trains_its_rows_with_workers(top10, two_workers):
    console = Console(file=io.StringIO(), width=200)
    # Two images a worker: BatchNorm cannot normalise one value, as P7 of one small image is.
    settings = ["fulltrain.iterations=2", "fulltrain.batch_size=4"]
    results = fulltrain(top10, top=1, workers=2, settings=settings, console=console)
    assert [(row.status, row.iterations) for row in results.rows] == [("done", 2)] * 2
    assert (top10.parent / "fulltrain" / "rank01" / "log.csv").read_text().count("\n") == 3
    assert (ON_CPU in console.file.getvalue()) is not torch.cuda.is_available()


def test_more_workers_than_images_in_a_batch_are_refused(recipe, tmp_path):
    with pytest.raises(InputError, match="every worker needs an image"), data_parallel(recipe, tmp_path, 4):
        pass


def test_one_worker_needs_no_ray():
    code = "import sys, nasperc.cli.main; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
