from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.backbones.resnet import ResNet, ResNetShape
from nasperc.models.backbones.weights import load_backbone_weights

WIDTH = 0.25


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return MobileNetV2(width_mult=WIDTH, frozen_bn=False).state_dict()


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("container", [None, "state_dict", "model"])
@pytest.mark.parametrize("frozen_bn", [True, False])
def test_every_weight_arrives(
    state: dict[str, Tensor], tmp_path: Path, container: str | None, frozen_bn: bool
) -> None:
    classifier = {"classifier.1.weight": torch.zeros(10, 4)}
    content: Any = {**state, **classifier}
    path = save(tmp_path / "w.pth", {container: content, "epoch": 3} if container else content)
    backbone = MobileNetV2(width_mult=WIDTH, frozen_bn=frozen_bn)
    loaded = load_backbone_weights(backbone, path)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    assert loaded.left_over == ("classifier.1.weight",)
    assert set(loaded.used) == set(backbone.state_dict())
    assert loaded.missing == ()
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_counters_may_be_missing(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    loaded = load_backbone_weights(MobileNetV2(width_mult=WIDTH, frozen_bn=False), path)
    assert len(loaded.missing) == 51


def test_offsets_of_deformable_convolutions_may_be_missing(tmp_path: Path) -> None:
    shape = ResNetShape((1, 1, 1, 1))
    plain = ResNet(shape, frozen_bn=False).state_dict()
    backbone = ResNet(shape, deformable_stages=(5,))
    loaded = load_backbone_weights(backbone, save(tmp_path / "w.pth", plain))
    offsets = tuple(f"layer4.0.conv2.offset_mask.{kind}" for kind in ("weight", "bias"))
    assert loaded.missing == offsets
    assert torch.equal(backbone.layer4[0].conv2.weight, plain["layer4.0.conv2.weight"])


@pytest.mark.parametrize("damage", ["missing key", "wrong shape"])
def test_another_architecture_is_refused_and_nothing_changes(
    state: dict[str, Tensor], tmp_path: Path, damage: str
) -> None:
    key = "features.9.conv.2.weight"
    if damage == "missing key":
        del state[key]
    else:
        state[key] = torch.zeros(1, 1, 1, 1)
    backbone = MobileNetV2(width_mult=WIDTH)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(InputError, match=f"another architecture.*{key}") as error:
        load_backbone_weights(backbone, save(tmp_path / "w.pth", state))
    assert error.value.where == str(tmp_path / "w.pth")
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_unreadable_files_are_refused_in_one_line(state: dict[str, Tensor], tmp_path: Path) -> None:
    text = tmp_path / "text.pth"
    text.write_text("not a checkpoint")
    whole = save(tmp_path / "whole.pth", state).read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole[: len(whole) // 2])
    empty = tmp_path / "empty.pth"
    empty.write_bytes(b"")
    for path in (text, cut, empty, tmp_path / "absent.pth", tmp_path):
        with pytest.raises(InputError, match="readable") as error:
            load_backbone_weights(MobileNetV2(width_mult=WIDTH), path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(
    state: dict[str, Tensor], tmp_path: Path, value: float
) -> None:
    name = "features.1.conv.0.0.weight"
    state[name].view(-1)[3] = value
    backbone = MobileNetV2(width_mult=WIDTH)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(InputError, match=f"finite numbers, but got NaN or infinity in {name}"):
        load_backbone_weights(backbone, save(tmp_path / "w.pth", state))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_numbers_that_the_backbone_does_not_take_may_be_anything(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    state["classifier.1.bias"] = torch.tensor([float("nan")])
    load_backbone_weights(MobileNetV2(width_mult=WIDTH), save(tmp_path / "w.pth", state))


class Payload:
    """A class that a pickle could name to run code when it is loaded."""


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="readable"):
        load_backbone_weights(MobileNetV2(width_mult=WIDTH), save(tmp_path / "w.pth", {"a": Payload()}))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_files_without_a_state_dict_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match="state dict"):
        load_backbone_weights(MobileNetV2(width_mult=WIDTH), save(tmp_path / "w.pth", content))
