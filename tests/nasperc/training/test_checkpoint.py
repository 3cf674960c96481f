import pytest
import torch

from nasperc.errors import InputError
from nasperc.training import checkpoint as module
from nasperc.training.checkpoint import load_checkpoint, save_checkpoint


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "checkpoint.pt"
    content = {"step": 3, "weights": {"a": torch.arange(4.0)}, "classes": ["x", "y"], "average": None}
    save_checkpoint(path, content)
    loaded = load_checkpoint(path, ("step",))
    assert torch.equal(loaded["weights"]["a"], torch.arange(4.0))
    assert (loaded["step"], loaded["classes"], loaded["average"]) == (3, ["x", "y"], None)
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def full(content, file):
        file.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.torch, "save", full)
    with pytest.raises(InputError, match=r"No space left.*checkpoint\.pt.*Make room"):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_missing(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.98])
def test_cut_short(tmp_path, keep):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.randn(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(InputError, match="whole file"):
        load_checkpoint(path)


def test_not_a_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_text("a text")
    with pytest.raises(InputError, match="whole file"):
        load_checkpoint(path)


def test_another_format(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"features.0.0.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="must have the format nasperc-checkpoint/1, but got None"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="but got list"):
        load_checkpoint(path)


def test_a_missing_key(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(InputError, match="must hold 'model'"):
        load_checkpoint(path, ("step", "model"))


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_is_executed(tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": "nasperc-checkpoint/1", "x": Evil()}, path)
    with pytest.raises(InputError):
        load_checkpoint(path)
    assert "executed" not in capsys.readouterr().out
