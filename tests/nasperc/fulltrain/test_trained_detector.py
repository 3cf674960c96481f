import pytest
import torch

from nasperc.assembly.detector import Baseline, Searched, build_detector
from nasperc.errors import InputError
from nasperc.fulltrain.trained_detector import describe, load_detector
from nasperc.search.top10 import read_top10
from nasperc.training.checkpoint import save_checkpoint


def content(recipe, decoder, classes=("a", "b")):
    torch.manual_seed(0)
    model = build_detector(recipe.model, decoder, len(classes))
    values = {
        **describe(recipe.model, decoder, recipe.space),
        "training": recipe.fulltrain.model_dump(mode="json"),
        "classes": list(classes),
        "normalisation": "tf",
        "step": 2,
        "finished": True,
        "model": model.state_dict(),
    }
    return values, model.eval()


@pytest.mark.parametrize("kind", ["baseline", "deformable", "anchors", "searched"])
def test_the_same_network_comes_back(tmp_path, recipe, top10, kind):
    read = read_top10(top10)
    decoder = Baseline(64, 128, 2)
    if kind == "deformable":
        decoder = Baseline(32, 64, 1, "deform-fpn-fcos")
    if kind == "anchors":
        decoder = Baseline(32, 64, 1, "fpn-retinanet", anchor_scale=0.25)
    if kind == "searched":
        decoder = Searched(read.space, read.entries[0].architecture, {"fpn": 64, "head": 128})
    values, model = content(recipe, decoder)
    save_checkpoint(tmp_path / "c.pt", values)
    loaded = load_detector(tmp_path / "c.pt")
    assert loaded.classes == ("a", "b")
    assert loaded.normalisation.name == "tf"
    assert loaded.training == recipe.fulltrain
    assert not loaded.model.training
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(model(images)[3], loaded.model(images)[3], strict=True):
            assert torch.equal(a, b)
    if kind == "anchors":
        assert loaded.model.anchor_scale == 0.25
    if kind != "searched":
        assert loaded.decoder == decoder
    else:
        assert loaded.decoder.architecture == decoder.architecture
        assert loaded.decoder.widths == decoder.widths


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a", "b", "c"]}, "must fit the network"),
        ({"detector": {"backbone": {"depth": 3}}}, "must fit the network"),
        ({"decoder": {"kind": "fpn_fcos"}}, "must fit the network"),
        ({"decoder": None}, "must fit the network"),
        ({"decoder": {"kind": "fpn_fcos", "widths": [64, 64], "depth": 1}}, "must fit the network"),
        ({"decoder": {"kind": "fpn_fcos", "widths": {"fpn": "wide", "head": 64}, "depth": 1}}, "must fit"),
        ({"decoder": {"kind": "fpn_fcos", "widths": {"fpn": 64, "head": 10**9}, "depth": 1}}, "must fit"),
        ({"decoder": {"kind": "fpn_fcos", "widths": {"fpn": 64, "head": 64}, "depth": 10**9}}, "must fit"),
        ({"decoder": {"kind": "searched", "widths": {}, "architecture": 3}}, "must"),
        ({"decoder": {"kind": "fpn_fcos", "widths": {"fpn": 48, "head": 48}, "depth": 1}}, "multiple of 32"),
        ({"space": "fcos_decoder", "decoder": {"kind": "searched", "widths": {}}}, "must fit the network"),
        ({"model": [1, 2]}, "must fit the network"),
        ({"model": {"backbone": 1}}, "must fit the network"),
        ({"classes": None}, "must fit the network"),
        ({"training": 7}, "must fit the network"),
        ({"step": "many"}, "must fit the network"),
        ({"normalisation": "none"}, "a normalisation must be one of"),
        ({"normalisation": ["tf"]}, "must fit the network"),
    ],
)
def test_an_edited_checkpoint(tmp_path, recipe, change, message):
    values, _ = content(recipe, Baseline(64, 64, 1))
    save_checkpoint(tmp_path / "c.pt", {**values, **change})
    with pytest.raises(InputError, match=message):
        load_detector(tmp_path / "c.pt")


def test_a_checkpoint_of_something_else(tmp_path):
    save_checkpoint(tmp_path / "c.pt", {"step": 1})
    with pytest.raises(InputError, match="must hold"):
        load_detector(tmp_path / "c.pt")
