"""Whether a checkpoint is of this training: the bytes of its images count, and old ones keep what they were given."""

import os
import shutil
import signal

import pytest
import torch

from nasperc.data.formats import open_dataset
from nasperc.data.normalisation import get_normalisation
from nasperc.errors import InputError
from nasperc.training.checkpoint import load_checkpoint, save_checkpoint
from nasperc.training.detection import train

TF = get_normalisation("tf")


@pytest.fixture
def folder(dataset, tmp_path):
    """A copy of the data that a test may change."""
    source = dataset.records[0].file.parents[1]
    shutil.copytree(source, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def half_done(folder, make_detector, recipe, tmp_path):
    """The checkpoint of a training that was interrupted."""
    path = tmp_path / "checkpoint.pt"

    def interrupt(step, terms):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trained(make_detector(), folder, recipe, path, on_step=interrupt)
    return path


def trained(model, folder, recipe, path, **options):
    dataset = open_dataset(folder, "train")
    dataset.read_files(folder.parent / "prepared")
    return train(model, dataset, recipe, seed=5, normalisation=TF, checkpoint=path, **options)


def as_before(path, dataset, **changes):
    """Rewrite a checkpoint as the code wrote it when only annotations counted."""
    content = load_checkpoint(path)
    del content["format"]
    save_checkpoint(path, {**content, "data": dataset.old_fingerprint(), **changes})


def test_a_training_is_not_continued_on_other_pixels(half_done, folder, make_detector, recipe):
    image = open_dataset(folder, "train").records[1].file
    original = image.read_bytes()
    # Behind the end of the picture: its pixels are the same, its bytes are not, and nobody looks closer.
    image.write_bytes(original + b"\0")
    with pytest.raises(InputError, match="continued with the data that it was made with") as error:
        trained(make_detector(), folder, recipe, half_done)
    assert f"other bytes in {image}, the first file that changed" in str(error.value)
    image.write_bytes(original)
    result = trained(make_detector(), folder, recipe, half_done)
    assert (result.resumed_at, result.pixels_known) == (2, True)


def test_an_old_checkpoint_goes_on_as_an_old_one(half_done, folder, make_detector, recipe):
    dataset = open_dataset(folder, "train")
    as_before(half_done, dataset)
    result = trained(make_detector(), folder, recipe, half_done)
    assert (result.resumed_at, result.iterations, result.pixels_known) == (2, 6, False)
    assert load_checkpoint(half_done)["data"] == dataset.old_fingerprint()
    # Finished, it is taken as it is.
    model = make_detector(seed=1)
    assert not trained(model, folder, recipe, half_done).pixels_known
    for name, tensor in load_checkpoint(half_done)["model"].items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_an_old_checkpoint_of_other_annotations_is_refused(half_done, folder, make_detector, recipe):
    as_before(half_done, open_dataset(folder, "val"))
    with pytest.raises(InputError, match="the data that it was made with"):
        trained(make_detector(), folder, recipe, half_done)


def test_keys_that_came_since_are_no_difference_where_they_mean_what_was_done_before(
    half_done, folder, make_detector, recipe
):
    as_before(half_done, open_dataset(folder, "train"), detector={"preset": {"name": "a"}})
    ignoring, training = {"name": "a", "crowd": "ignore"}, {"name": "a", "crowd": "background"}
    for preset, message in ((training, "the detector that it was made with.*crowd"), (ignoring, None)):
        options = {"description": {"detector": {"preset": preset}}}
        if message is None:
            assert not trained(make_detector(), folder, recipe, half_done, **options).pixels_known
            continue
        with pytest.raises(InputError, match=message):
            trained(make_detector(), folder, recipe, half_done, **options)
