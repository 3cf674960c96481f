import os
import signal

import pytest
import torch
from video_checkpoint import MODEL

from nasperc.assembly import static_network
from nasperc.assembly.static_network import prepared_static
from nasperc.data.formats import open_video
from nasperc.data.image_rules import ImageRules
from nasperc.errors import InputError
from nasperc.training.checkpoint import load_checkpoint
from nasperc.training.segmentation_recipe import StaticTrainingRecipe

RECIPE = StaticTrainingRecipe(epochs=1, batch_size=4, crop=(48, 64))


def same(one, other):
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def never_trained_again(monkeypatch):
    def forbid():
        def losses(*_, **__):
            raise AssertionError("it was trained again")

        monkeypatch.setattr("nasperc.training.segmenter_plans.static_losses", losses)

    return forbid


def test_trained_once(videos, tmp_path, never_trained_again):
    seen = []
    network, path = prepared_static(MODEL, RECIPE, videos, tmp_path, 0, lambda *step: seen.append(step))
    assert seen == [("pre-training", 0.5), ("pre-training", 1.0)]
    assert not network.training
    assert len(network.auxiliary) == 0
    assert path.parent == tmp_path
    never_trained_again()
    again, found = prepared_static(MODEL, RECIPE, videos, tmp_path, 0)
    assert (found, same(network, again)) == (path, True)


def test_a_damaged_file_is_refused_by_name(videos, tmp_path):
    _, path = prepared_static(MODEL, RECIPE, videos, tmp_path, 0)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=rf"was changed .*{path.name}.*Remove the file to start anew"):
        prepared_static(MODEL, RECIPE, videos, tmp_path, 0)


def test_ctrl_c_and_on_from_there(videos, tmp_path):
    straight, path = prepared_static(MODEL, RECIPE, videos, tmp_path / "straight", 0)

    def interrupt(phase, fraction):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        prepared_static(MODEL, RECIPE, videos, tmp_path, 0, interrupt)
    assert load_checkpoint(tmp_path / path.name)["step"] == 1
    fractions = []
    network, _ = prepared_static(
        MODEL, RECIPE, videos, tmp_path, 0, lambda _, fraction: fractions.append(fraction)
    )
    assert fractions == [1.0]
    assert same(network, straight)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"recipe": RECIPE.model_copy(update={"auxiliary_weight": 0.2})},
        {"model": MODEL.model_copy(update={"segmentation_decoder": "deeplab_v3_plus"})},
    ],
)
def test_another_training_has_another_file(videos, change):
    given = {"model": MODEL, "recipe": RECIPE, "dataset": videos, "seed": 0}
    other = {**given, **change}
    assert static_network.static_contents(**given) != static_network.static_contents(**other)


@pytest.mark.parametrize("rules", [ImageRules(range=(0, 9)), ImageRules(exif="apply")])
def test_a_network_is_of_the_rules_that_images_were_read_by(videos, video_data, rules):
    other = open_video(video_data, "train", rules=rules)
    contents = [static_network.static_contents(MODEL, RECIPE, split, 0) for split in (videos, other)]
    assert contents[0]["images"] == {"range": None, "exif": "ignore"}
    assert contents[0] != contents[1]


def test_how_often_checkpoints_are_written_is_not_part_of_it(videos):
    rare = RECIPE.model_copy(update={"checkpoint_every": 7})
    contents = [static_network.static_contents(MODEL, recipe, videos, 0) for recipe in (RECIPE, rare)]
    assert contents[0] == contents[1]


def test_weights_that_are_not_there(videos, tmp_path):
    backbone = MODEL.backbone.model_copy(update={"weights": tmp_path / "no.pth", "normalisation": "tf"})
    with pytest.raises(InputError, match="a weights file must be readable"):
        prepared_static(MODEL.model_copy(update={"backbone": backbone}), RECIPE, videos, tmp_path, 0)
