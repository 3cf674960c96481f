"""What a segmenter's checkpoint says, and says not."""

from collections.abc import Callable
from pathlib import Path

from nasperc.tasks.instances.trained import TrainedInstances
from nasperc.tasks.lookup import load_trained
from nasperc.training.checkpoint import load_checkpoint


def model(path: Path) -> TrainedInstances:
    trained = load_trained(path)
    assert isinstance(trained, TrainedInstances)
    return trained


def test_what_masks_are_pasted_into(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint(paste_into="pooled_box")
    assert load_checkpoint(path)["segmenter"]["paste_into"] == "pooled_box"
    assert model(path).model.paste_into == "pooled_box"
    # As before there was the key: what was begun then goes on.
    path = write_checkpoint()
    assert "paste_into" not in load_checkpoint(path)["segmenter"]
    assert model(path).model.paste_into == "clipped_box"
