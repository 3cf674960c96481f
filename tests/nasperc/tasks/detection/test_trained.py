import pytest
import torch

from nasperc.assembly.detector import Baseline, Searched, build_detector
from nasperc.errors import InputError
from nasperc.search.top10 import read_top10
from nasperc.tasks.detection.trained import describe, load_detector
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


@pytest.mark.parametrize("kind", ["baseline", "deformable", "anchors", "merged", "searched"])
def test_the_same_network_comes_back(tmp_path, recipe, top10, kind):
    read = read_top10(top10)
    decoder = Baseline(64, 128, 2)
    if kind == "deformable":
        decoder = Baseline(32, 64, 1, "deform-fpn-fcos")
    if kind == "anchors":
        decoder = Baseline(32, 64, 1, "fpn-retinanet", anchor_scale=0.25)
    if kind == "merged":
        # A pyramid with P2, which the head passes by.
        decoder = Baseline(32, 64, 3, ends=(2, 7), merged_tower=True)
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
        for a, b in zip(model(images).head[3], loaded.model(images).head[3], strict=True):
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
        ({"detector": {"backbone": {"depth": 3}}}, r"valid recipe keys: backbone\.depth: "),
        ({"decoder": {"kind": "fpn_fcos"}}, "must fit the network"),
        ({"decoder": None}, "must fit the network"),
        ({"decoder": {"kind": "fpn_fcos", "widths": [64, 64], "depth": 1}}, "must fit the network"),
        ({"decoder": {"kind": "fpn_fcos", "widths": {"fpn": "wide", "head": 64}, "depth": 1}}, "must fit"),
        ({"decoder": {"kind": "fpn_fcos", "widths": {"fpn": 64, "head": 10**9}, "depth": 1}}, "must fit"),
        ({"decoder": {"kind": "fpn_fcos", "widths": {"fpn": 64, "head": 64}, "depth": 10**9}}, "must fit"),
        ({"decoder": {"kind": "searched", "widths": {}, "architecture": 3}}, "must"),
        ({"decoder": {"kind": "fpn_fcos", "widths": {"fpn": 48, "head": 48}, "depth": 1}}, "multiple of 32"),
        ({"space": "fcos_decoder", "decoder": {"kind": "searched", "widths": {}}}, "valid recipe keys"),
        ({"model": [1, 2]}, "must fit the network"),
        ({"model": {"backbone": 1}}, "must fit the network"),
        ({"classes": None}, "must fit the network"),
        ({"classes": ["a", 2]}, "must fit the network"),
        (
            {"classes": ["a", "x" * 1_000_000]},
            "a class may have 200 characters at most, but got 1000000: xxx",
        ),
        ({"classes": ["a"] * 20_000}, "10000 classes at most, but got 20000 classes"),
        ({"training": {"test_short_side": 60_000}}, r"keys: test_short_side: .*4096, but got 60000"),
        ({"training": {"max_long_side": 10**7}}, r"keys: max_long_side: .*1000000, but got 10000000"),
        ({"training": 7}, "valid recipe keys"),
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path, recipe, value):
    values, _ = content(recipe, Baseline(64, 64, 1))
    name = next(name for name, weight in reversed(values["model"].items()) if weight.is_floating_point())
    values["model"][name].view(-1)[-1] = value
    save_checkpoint(tmp_path / "c.pt", values)
    with pytest.raises(InputError, match=f"must be finite numbers, but got NaN or infinity in {name}"):
        load_detector(tmp_path / "c.pt")


def test_a_flipped_bit_in_the_weights(tmp_path, recipe):
    values, _ = content(recipe, Baseline(64, 64, 1))
    save_checkpoint(tmp_path / "c.pt", values)
    damaged = bytearray((tmp_path / "c.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "c.pt").write_bytes(damaged)
    with pytest.raises(InputError, match=r"whole file, but got a record that was changed .*c\.pt"):
        load_detector(tmp_path / "c.pt")


def test_a_checkpoint_of_something_else(tmp_path):
    save_checkpoint(tmp_path / "c.pt", {"step": 1})
    with pytest.raises(InputError, match="must hold"):
        load_detector(tmp_path / "c.pt")
