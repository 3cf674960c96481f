"""AdelaiDet's BlendMask: the converted one must see the same instances, with the same masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from adelaidet_blendmask_reference import Segmented, instances
from adelaidet_reference import network_input
from foreign_weights import HEAD, Draw, State, adelaidet_blendmask, deformable, real_time, semantic
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from nasperc.convert.conversion import convert
from nasperc.convert.outcome import Conversion
from nasperc.convert.weights_file import WeightsFile, read_weights
from nasperc.data.sample import Meta, Sample
from nasperc.errors import InputError
from nasperc.tasks.instances.trained import TrainedInstances
from nasperc.tasks.lookup import load_trained
from nasperc.tasks.trained import PredictOptions
from nasperc.training.detect import detect

CLASSES = ("a", "b", "c")
Convert = Callable[..., Conversion]


@pytest.fixture(scope="module")
def weights() -> State:
    return adelaidet_blendmask(len(CLASSES))


@pytest.fixture
def converted(tmp_path: Path) -> Convert:
    def run(state: State, classes: tuple[str, ...] | None = CLASSES, **options: int) -> Conversion:
        source = WeightsFile(tmp_path / "theirs.pth", "sha256 of it", state, None)
        return convert(source, classes=classes, **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def rgb() -> Tensor:
    """An image in which no two detections have nearly the same score: they would not have one order."""
    return torch.randint(0, 256, (3, 72, 104), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))


def through_the_checkpoint(conversion: Conversion, folder: Path) -> TrainedInstances:
    conversion.write(folder / "ours.pt")
    trained = load_trained(folder / "ours.pt")
    assert isinstance(trained, TrainedInstances)
    return trained


def check_masks(trained: TrainedInstances, rgb: Tensor, wanted: list[Segmented]) -> None:
    """That the network finds in an image of 72 x 104 what the reference does, inside of the boxes."""
    sample = Sample(rgb, Meta(0, Path("x.png"), (72, 104)))
    (found,) = detect(trained.model, [sample], trained.normalisation, 72, 200)
    assert len(wanted) > 10
    assert found.labels is not None
    assert found.labels.tolist() == [each.found.label for each in wanted]
    torch.testing.assert_close(
        found.boxes, torch.tensor([each.found.box for each in wanted]), atol=2e-4, rtol=1e-4
    )
    masks = torch.stack([each.mask for each in wanted])
    assert masks.std() > 0.05
    torch.testing.assert_close(found.masks, masks, atol=5e-4, rtol=0)


def test_the_same_instances_in_the_pixels_of_the_image(weights: State, tmp_path: Path, rgb: Tensor) -> None:
    torch.save({"model": weights, "iteration": 89999}, tmp_path / "theirs.pth")
    conversion = convert(read_weights(tmp_path / "theirs.pth"), classes=CLASSES, short_side=72, long_side=200)
    trained = through_the_checkpoint(conversion, tmp_path)
    assert trained.classes == CLASSES
    assert trained.normalisation.name == "caffe"
    with torch.no_grad():
        wanted = instances(weights, network_input(rgb), (72, 104), (72, 104))
    check_masks(trained, rgb, wanted)
    Image.fromarray(rgb.permute(1, 2, 0).numpy()).save(tmp_path / "x.png")
    options = PredictOptions(threshold=0.0)
    trained.predict(tmp_path / "ours.pt", [tmp_path / "x.png"], tmp_path / "out", options)
    (image,) = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    assert len(image["objects"]) == len(wanted)
    inside = 0
    for object_, each in zip(image["objects"], wanted, strict=True):
        pixels = torch.from_numpy(coco_mask.decode(object_["segmentation"])).bool()
        surely = (each.pixels - 0.5).abs() > 1e-3
        assert torch.equal(pixels[surely], each.pixels[surely] > 0.5)
        inside += int(pixels.sum())
    assert inside > 1000


@pytest.mark.parametrize("kind", ["real-time", "deformable", "two bases of 7 x 7", "scalars", "panoptic"])
def test_other_networks_of_theirs(
    weights: State, converted: Convert, tmp_path: Path, rgb: Tensor, kind: str
) -> None:
    state = {
        "real-time": lambda: real_time(weights),
        "deformable": lambda: deformable(weights),
        "two bases of 7 x 7": lambda: adelaidet_blendmask(len(CLASSES), bases=2, attention=7),
        "scalars": lambda: adelaidet_blendmask(len(CLASSES), attention=1),
        "panoptic": lambda: panoptic(weights),
    }[kind]()
    trained = through_the_checkpoint(converted(state), tmp_path)
    with torch.no_grad():
        check_masks(trained, rgb, instances(state, network_input(rgb), (72, 104), (72, 104)))
    backbone = trained.recipe.backbone
    assert backbone.deformable_stages == ((3, 4, 5) if kind == "deformable" else ())
    assert backbone.deformable_interval == (3 if kind == "deformable" else 1)
    assert [spec.name for spec in trained.model.levels] == ["P3", "P4", "P5", "P6", "P7"][
        : 4 if kind == "real-time" else 5
    ]
    sides = (trained.training.test_short_side, trained.training.max_long_side)
    assert sides == ((550, 916) if kind == "real-time" else (800, 1333))
    assert trained.model.preset.sizes_of_interest[-1][0] == (256 if kind == "real-time" else 512)


def panoptic(state: State) -> State:
    """The same with a P2 and a head of stuff on it."""
    draw = Draw(9)
    draw.conv("backbone.fpn_lateral2", 32, 256, 1)
    draw.conv("backbone.fpn_output2", 32, 32, 3)
    draw.conv("panoptic_module.predictor", 54, 32, 1)
    return {**state, **draw.state}


def test_every_key_is_accounted_for(weights: State, converted: Convert) -> None:
    conversion = converted(panoptic(weights))
    report = conversion.report
    assert set(report.used) == {key for key in panoptic(weights) if "num_batches" not in key} - {
        *report.left_over
    }
    assert report.left_over == ("panoptic_module.predictor.weight", "panoptic_module.predictor.bias")
    assert report.missing == report.misfits == report.filled == ()
    assert conversion.kind == "AdelaiDet BlendMask instance segmenter"
    assert "BlendMask 56_4_14" in conversion.network
    assert "with semantic head" in conversion.network


def test_a_semantic_head_is_the_networks_own_or_left_out(weights: State, converted: Convert) -> None:
    options = converted(weights).content["segmenter"]
    assert options["blendmask"]["semantic"] == {"weight": 0.3, "level": "P3", "width": 8}
    without = {key: value for key, value in weights.items() if "seg_head" not in key}
    assert converted(without).content["segmenter"]["blendmask"]["semantic"] is None
    # Of a data set of its own, with the semantic head of COCO: training alone looks at it.
    draw = Draw(5)
    semantic(draw, 81, 8, 32)
    conversion = converted({**weights, **draw.state})
    conversion.check()
    assert conversion.content["segmenter"]["blendmask"]["semantic"] is None
    assert set(conversion.report.left_over) == set(draw.state)
    assert "without semantic head" in conversion.network


def test_scales_of_the_levels_and_sides_of_the_images_are_kept(weights: State, converted: Convert) -> None:
    scaled = {**weights, **{f"{HEAD}scales.{n}.scale": torch.ones(1) for n in range(5)}}
    content = converted(scaled, short_side=512).content
    assert content["segmenter"]["preset_overrides"]["level_scales"] is True
    assert torch.equal(content["model"]["head.scales"], torch.ones(5))
    assert content["training"]["test_short_side"] == 512
    assert content["training"]["max_long_side"] == 1333


BASES = "basis_module."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_layer.weight": None}, "no top_layer.weight"),
        ({"top_layer.bias": None}, "1 missing: top_layer.bias"),
        ({"top_layer.weight": torch.zeros(100, 32, 3, 3)}, r"another shape: top_layer.bias \(784,\) inst"),
        ({"top_layer.weight": torch.zeros(785, 32, 3, 3)}, "785 channels of the top layer for 4 bases"),
        ({"top_layer.weight": torch.zeros(784, 64, 3, 3)}, r"another shape: top_layer.weight \(784, 64"),
        ({"top_layer.weight": torch.zeros(4 * 57**2, 1, 3, 3)}, "attention"),
        ({f"{BASES}tower.5.weight": torch.zeros(1, 8, 1, 1)}, "but got one basis"),
        ({f"{BASES}tower.2.1.running_var": None}, r"1 missing: basis_module.tower.2.1.running_var"),
        ({f"{BASES}refine.1.0.weight": None}, r"1 missing: basis_module.refine.1.0.weight"),
        ({f"{BASES}refine.3.0.weight": torch.zeros(8, 32, 3, 3)}, "reads 4 levels instead of P3, P4, P5"),
        ({f"{BASES}refine.0.0.bias": torch.zeros(8)}, "1 unknown: basis_module.refine.0.0.bias"),
        ({f"{BASES}attention.weight": torch.zeros(8)}, "1 unknown: basis_module.attention.weight"),
        ({f"{BASES}seg_head.3.weight": None}, "1 missing: basis_module.seg_head.3.weight"),
        ({f"{BASES}seg_head.6.weight": None}, "no basis_module.seg_head.6.weight"),
        ({"top_layer.norm.weight": torch.zeros(784)}, "1 unknown: top_layer.norm.weight"),
        ({f"{HEAD}share_tower.0.weight": torch.zeros(32, 32, 3, 3)}, "1 unknown: .*share_tower"),
        ({"backbone.top_block.p6.weight": None}, "1 missing: backbone.top_block.p6.weight"),
        ({"backbone.bottom_up.res3.1.conv2_offset.weight": torch.zeros(27, 128, 3, 3)}, r"blocks \[1\] of C3"),
        ({"backbone.bottom_up.res2.0.conv2_offset.weight": torch.zeros(27, 64, 3, 3)}, "C3, C4 or C5"),
        ({"backbone.bottom_up.res4.0.conv2_offset.weight": torch.zeros(18, 256, 3, 3)}, "1 missing: .*conv2_offset"),
        ({f"{BASES}tower.5.bias": torch.full((4,), float("nan"))}, "finite .*bottom.network.tower.5.bias"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_written(
    weights: State, converted: Convert, tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    state = {key: value for key, value in {**weights, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        converted(state).write(tmp_path / "ours.pt")
    assert not (tmp_path / "ours.pt").exists()
