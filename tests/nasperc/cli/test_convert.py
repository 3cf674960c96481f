"""``nasperc convert`` as a person types it."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch

from nasperc.cli import main as cli
from nasperc.cli.fulltrain import backbone_overrides
from nasperc.models.backbones.resnet import RESNETS, ResNet


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Exit code, standard output and standard error of ``nasperc convert ...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["nasperc", "convert", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        captured = capsys.readouterr()
        return exit.value.code, captured.out, captured.err

    return run


@pytest.fixture
def state():
    torch.manual_seed(0)
    return {**ResNet(RESNETS["resnet18"]).state_dict(), "fc.weight": torch.zeros(1000, 512)}


def test_a_backbone(tmp_path, convert, state):
    torch.save(state, "theirs.pth")
    code, out, err = convert("theirs.pth")
    assert code == 0, err
    assert "torchvision ResNet" in out
    assert "resnet18, normalisation imagenet" in out
    assert "fc.weight" in out
    assert f"and {len(state) - 1 - 12} more" in out
    assert "nasperc search --weights theirs.nasperc.pt --set model.backbone.name=resnet18" in out
    assert torch.load(tmp_path / "theirs.nasperc.pt")["normalisation"] == "imagenet"
    code, out, _ = convert("theirs.pth", "--out", "deep/ours.pt", "--all-keys")
    assert code == 0
    assert all(key in out for key in state)
    assert (tmp_path / "deep" / "ours.pt").is_file()


def test_something_missing_is_shown_and_nothing_written(tmp_path, convert, state):
    del state["layer2.1.bn1.running_var"], state["layer3.0.conv2.weight"]
    torch.save(state, "theirs.pth")
    code, out, err = convert("theirs.pth")
    assert code == 2
    assert "layer2.1.bn1.running_var" in out
    assert "2 missing" in err
    assert "Traceback" not in err
    assert [file.name for file in tmp_path.iterdir()] == ["theirs.pth"]


class Hostile:
    def __reduce__(self):
        return os.system, ("touch was-run",)


def test_a_hostile_pickle(tmp_path, convert):
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"conv1_w": np.zeros(3), "x": Hostile()}))
    code, _, err = convert("R-50.pkl")
    assert code == 2
    assert "system" in err
    assert [file.name for file in tmp_path.iterdir()] == ["R-50.pkl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.pth"], "nowhere.pth"),
        (["nowhere.pkl"], "nowhere.pkl"),
        (["other.pth"], "of a known kind: AdelaiDet FCOS"),
        (["other.pth", "--classes", "names.txt"], "names.txt"),
        (["other.pth", "--normalisation", "mean"], "--normalisation"),
        (["other.pth", "--short-side", "550"], "only detectors are tested on images of a size"),
    ],
)
def test_bad_input(convert, arguments, message):
    torch.save({"a": torch.zeros(1)}, "other.pth")
    code, _, err = convert(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_other_weights_of_a_full_training_bring_their_own_normalisation(tmp_path):
    assert backbone_overrides(None, None) == {}
    assert backbone_overrides(None, "tf") == {"normalisation": "tf"}
    file = tmp_path / "w.pt"
    forgotten = {"weights": str(file), "normalisation": None, "stride_in": None}
    assert backbone_overrides(file, None) == forgotten
    assert backbone_overrides(file, "tf") == {**forgotten, "normalisation": "tf"}
