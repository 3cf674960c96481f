"""``nasperc predict --show bases``."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from torch import nn

from nasperc.errors import InputError
from nasperc.models.blendmask.model import BlendMask
from nasperc.tasks.instances.draw_bases import COLOURS, MOST_DETECTIONS
from nasperc.tasks.instances.trained import TrainedInstances
from nasperc.tasks.lookup import load_trained
from nasperc.tasks.trained import PredictOptions

SMALL = {"region": 16, "attention": 4, "bottom": {"name": "protonet", "width": 8}}
Write = Callable[..., Path]


def photo(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(90, 110, (48, 64, 1), dtype=np.uint8).repeat(3, 2)
    Image.fromarray(pixels).save(path)
    return path


def trained(path: Path) -> TrainedInstances:
    found = load_trained(path)
    assert isinstance(found, TrainedInstances)
    return found


def shown(network: TrainedInstances, image: Path, out: Path, threshold: float = 0.0) -> np.ndarray:
    """The pixels of the view."""
    network.predict(Path("checkpoint.pt"), [image], out, PredictOptions(threshold=threshold, show="bases"))
    return np.asarray(Image.open(out / f"{image.stem}-bases.png"))


def test_it_lies_beside_the_picture_and_stands_in_the_json(tmp_path: Path, write_checkpoint: Write) -> None:
    network = trained(write_checkpoint(blendmask=SMALL))
    # The name of the second would be that of the first one's view.
    images = [photo(tmp_path / "a" / "x.png"), photo(tmp_path / "a" / "x-bases.png")]
    options = PredictOptions(threshold=1.0, show="bases")
    done = network.predict(Path("checkpoint.pt"), images, tmp_path / "out", options)
    assert f"bases in {tmp_path / 'out' / 'x-bases.png'}" in done.lines[0]
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    written = [(each["picture"], each["views"]) for each in content["images"]]
    assert written == [
        ("x.png", {"bases": "x-bases.png"}),
        ("x-bases-2.png", {"bases": "x-bases-2-bases.png"}),
    ]
    for picture, views in written:
        assert Image.open(tmp_path / "out" / picture).size == (64, 48)
        assert Image.open(tmp_path / "out" / views["bases"]).width > 400


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"bases": 1},
        {"attention": 1, "merger": "weighted_sum"},
        # More than there is room for.
        {"attention": 3, "bases": 9, "merger": "assembler", "top_interpolation": "nearest"},
    ],
)
def test_every_way_of_merging_is_shown(
    tmp_path: Path, write_checkpoint: Write, choices: dict[str, object]
) -> None:
    network = trained(write_checkpoint(blendmask={**SMALL, **choices}))
    image = photo(tmp_path / "a" / "x.png")
    none, some = (shown(network, image, tmp_path / f"{share}", share) for share in (1.0, 0.0))
    # A block for each of the best detections.
    assert some.shape[1] == none.shape[1]
    assert some.shape[0] > none.shape[0] + MOST_DETECTIONS * 300


def test_attentions_have_the_colour_of_their_basis(tmp_path: Path, write_checkpoint: Write) -> None:
    """Of bases that are 0 everywhere and attentions that take the second one alone."""
    network = trained(write_checkpoint(blendmask=SMALL))
    model = network.model
    assert isinstance(model, BlendMask)
    assert model.top_layer is not None
    last = [each for each in model.bottom.modules() if isinstance(each, nn.Conv2d)][-1]
    for parameter in (*last.parameters(), *model.top_layer.parameters()):
        nn.init.zeros_(parameter)
    model.top_layer.conv.bias.data.view(4, -1)[1] = 100.0  # type: ignore[union-attr]
    pixels = shown(network, photo(tmp_path / "a" / "x.png"), tmp_path / "out")
    red, blue, *others = (
        (np.abs(pixels - np.rint(255 * np.array(to_rgb(colour)))) <= 1).all(axis=2).sum()
        for colour in COLOURS[:4]
    )
    # Red and the others are in titles alone.
    assert blue > 5000
    assert max(red, *others) < 500


def test_what_cannot_be_shown_is_one_error(tmp_path: Path, write_checkpoint: Write) -> None:
    network = trained(write_checkpoint(blendmask=SMALL))
    with pytest.raises(
        InputError, match=r"what BlendMask shows must be one of bases, but got factors.*--show"
    ):
        network.predict(Path("c.pt"), [], tmp_path / "out", PredictOptions(show="factors"))
    assert not (tmp_path / "out").exists()
