import numpy as np
import pytest
import torch
from video_checkpoint import MODEL, searched_cell

from nasperc.assembly.detector import Searched
from nasperc.assembly.segmenter import build_static, build_video
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_space


@pytest.mark.parametrize("name", ["arch2", "deeplab_v3_plus"])
def test_a_cell_on_any_static_network(name):
    model = MODEL.model_copy(update={"segmentation_decoder": name})
    static = build_static(model, 5, load_weights=False)
    video = build_video(model, searched_cell(), 5, static)
    assert video.static is static
    assert torch.equal(video.cell.classifier.weight, static.classifier.weight)
    assert video.cell.classifier is not static.classifier
    assert [x.shape for x in video.eval()([torch.rand(2, 3, 64, 64)] * 2)] == [(2, 5, 8, 8)] * 2


def test_auxiliary_classifiers_serve_training_only():
    assert len(build_static(MODEL, 5, load_weights=False, auxiliary=True).auxiliary) == 3
    assert len(build_static(MODEL, 5, load_weights=False).auxiliary) == 0


def test_a_decoder_of_a_detector_is_no_cell():
    space, rng = build_space(Recipe()), np.random.default_rng(0)
    decoder = space.architecture({part: space.sample(part, rng) for part in space.parts})
    static = build_static(MODEL, 5, load_weights=False)
    with pytest.raises(InputError, match="needs an architecture of a space of dynamic cells"):
        build_video(MODEL, Searched(space, decoder, {"fpn": 64, "head": 64}), 5, static)
