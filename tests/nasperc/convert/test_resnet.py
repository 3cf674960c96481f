"""ResNets of MSRA, detectron2 and torchvision: the converted one must put out the same features."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from adelaidet_reference import resnet
from foreign_weights import State, detectron2_resnet, msra_pickle

from nasperc.convert.conversion import convert
from nasperc.convert.weights_file import WeightsFile, read_weights
from nasperc.errors import InputError
from nasperc.models.backbones.build import BackboneRecipe, build_backbone
from nasperc.models.backbones.resnet import RESNETS, ResNet
from nasperc.models.backbones.weights import load_backbone_weights


@pytest.fixture(scope="module")
def theirs() -> State:
    return detectron2_resnet()


def in_memory(state: State, author: str | None = None) -> WeightsFile:
    return WeightsFile(Path("theirs.pkl"), "sha256 of it", state, author)


def arrays(state: State) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in state.items()}


def test_an_msra_pickle(theirs, tmp_path) -> None:
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(msra_pickle(theirs), protocol=2))
    conversion = convert(read_weights(tmp_path / "R-50.pkl"))
    assert conversion.report.left_over == ("conv1_b", "fc1000_w", "fc1000_b")
    assert len(conversion.report.used) == 53 * 3  # 53 convolutions, each with scale and shift
    assert len(conversion.report.filled) == 53 * 2
    conversion.write(tmp_path / "ours.pt")

    recipe = BackboneRecipe(name="resnet50", weights=tmp_path / "ours.pt").resolved()
    assert (recipe.normalisation, recipe.stride_in) == ("caffe", "1x1")
    backbone = build_backbone(recipe).eval()
    loaded = load_backbone_weights(backbone, recipe.weights)
    assert loaded.missing == loaded.left_over == ()
    without_statistics = dict(theirs)
    for key in theirs:
        if "running" in key:
            without_statistics[key] = torch.full_like(theirs[key], float(key.endswith("var")))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 60
    with torch.no_grad():
        wanted = resnet(without_statistics, "", images)
        for found, expected in zip(backbone(images)[1:], wanted, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_statistics_that_are_there_are_used(theirs) -> None:
    with_statistics = {
        key: torch.tensor(value) for key, value in msra_pickle(theirs, statistics=True).items()
    }
    conversion = convert(in_memory(with_statistics))
    assert conversion.report.filled == ()
    mean = conversion.content["state_dict"]["layer4.2.bn3.running_mean"]
    assert torch.equal(mean, theirs["res5.2.conv3.norm.running_mean"])


@pytest.mark.parametrize(
    ("author", "asked", "normalisation", "stride_in"),
    [
        ("torchvision", None, "imagenet", "3x3"),
        ("MSRA", None, "caffe", "1x1"),
        (None, "caffe", "caffe", "1x1"),
        ("torchvision", "caffe", "caffe", "1x1"),
    ],
)
def test_detectron2_names(theirs, author, asked, normalisation, stride_in) -> None:
    conversion = convert(in_memory(theirs, author), normalisation=asked)
    conversion.check()
    assert conversion.content["normalisation"] == normalisation
    assert conversion.content["stride_in"] == stride_in
    assert torch.equal(
        conversion.content["state_dict"]["layer2.0.downsample.1.weight"],
        theirs["res3.0.shortcut.norm.weight"],
    )


def test_the_backbone_of_another_detector(theirs) -> None:
    state = {f"backbone.bottom_up.{key}": value for key, value in theirs.items()}
    pixels = {
        "pixel_mean": torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
    }
    conversion = convert(in_memory({**state, **pixels, "roi_heads.x": torch.zeros(1)}))
    conversion.check()
    assert conversion.report.left_over == ("pixel_mean", "pixel_std", "roi_heads.x")
    assert conversion.content["normalisation"] == "caffe"


def test_the_normalisation_of_detectron2_names_is_asked_for(theirs) -> None:
    with pytest.raises(InputError, match="--normalisation"):
        convert(in_memory(theirs))


@pytest.mark.parametrize("name", list(RESNETS))
def test_torchvision_weights_pass_through(name, tmp_path) -> None:
    with torch.device("meta"):
        state = ResNet(RESNETS[name], frozen_bn=False).state_dict()
    classifier = {"fc.weight": torch.zeros(5, 2048), "fc.bias": torch.zeros(5)}
    conversion = convert(in_memory({**state, **classifier}))
    conversion.check()
    assert conversion.content["backbone"] == name
    assert conversion.content["normalisation"] == "imagenet"
    assert conversion.content["stride_in"] == (None if name == "resnet18" else "3x3")
    assert conversion.report.left_over == ("fc.weight", "fc.bias")
    # Everything but the counters.
    assert list(conversion.report.used) == [key for key in state if "num_batches" not in key]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A converted ResNet-18."""
    path = tmp_path_factory.mktemp("small") / "ours.pt"
    torch.manual_seed(0)
    convert(in_memory(ResNet(RESNETS["resnet18"]).state_dict())).write(path)
    return path


def test_the_record_fills_what_the_recipe_leaves_open(small) -> None:
    asked = BackboneRecipe(name="resnet18", weights=small, freeze_at=1)
    assert asked.resolved() == asked.model_copy(update={"normalisation": "imagenet"})
    named = BackboneRecipe(name="resnet18", weights=small, normalisation="tf")
    assert named.resolved() is named
    assert BackboneRecipe(name="resnet18").resolved().normalisation is None


def test_a_record_of_another_backbone_says_what_to_type(small) -> None:
    with pytest.raises(
        InputError, match=r"weights of resnet18 for mobilenet_v2 .*model\.backbone\.name=resnet18"
    ):
        BackboneRecipe(weights=small).resolved()


@pytest.mark.parametrize("edit", [{"normalisation": "mean"}, {"stride_in": "1x1"}, {"normalisation": ["tf"]}])
def test_an_edited_record(small, tmp_path, edit) -> None:
    torch.save({**torch.load(small), **edit}, tmp_path / "edited.pt")
    with pytest.raises(InputError, match="convert the weights again"):
        BackboneRecipe(name="resnet18", weights=tmp_path / "edited.pt").resolved()


def test_weights_without_a_record_are_asked_about(tmp_path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    recipe = BackboneRecipe(weights=tmp_path / "w.pth")
    assert recipe.resolved() is recipe
    with pytest.raises(InputError, match="readable"):
        BackboneRecipe(weights=tmp_path / "absent.pth").resolved()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"res4_3_branch2c_w": None}, "1 missing: res4_3_branch2c_w"),
        (
            {"res4_3_branch2c_bn_s": torch.zeros(7)},
            r"another shape: res4_3_branch2c_bn_s \(7,\) instead of \(1024,\)",
        ),
        ({"res2_0_branch2a_w": None}, "without its first block"),
        ({"conv1_w": None}, "of a known kind: AdelaiDet FCOS detector or BlendMask, MSRA ResNet"),
        ({"res4_6_branch2a_w": torch.zeros(1)}, "one of resnet18, .* 3-4-7-3 bottlenecks"),
        ({"res4_3_branch2b_gn_s": torch.zeros(1)}, "1 unknown: res4_3_branch2b_gn_s"),
    ],
)
def test_what_does_not_fit_is_refused(theirs, tmp_path, change, message) -> None:
    state = {key: torch.from_numpy(value) for key, value in msra_pickle(theirs).items()}
    state = {key: value for key, value in {**state, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        convert(in_memory(state)).write(tmp_path / "ours.pt")
    assert not (tmp_path / "ours.pt").exists()


def test_basic_blocks_have_one_place_for_the_stride(small) -> None:
    with pytest.raises(InputError, match="bottlenecks"):
        convert(read_weights(small)._replace(path=Path("x")), stride_in="1x1")
