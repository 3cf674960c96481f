"""AdelaiDet's detectors: the converted one must see what theirs sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adelaidet_reference import detections, network, network_input
from foreign_weights import HEAD, State, adelaidet_fcos, real_time

from nasperc.assembly.detector import Baseline
from nasperc.convert.conversion import convert
from nasperc.convert.outcome import Conversion
from nasperc.convert.weights_file import WeightsFile, read_weights
from nasperc.data.coco_names import COCO_CLASSES
from nasperc.data.sample import Meta, Sample
from nasperc.errors import InputError
from nasperc.models.normalisation import FrozenBatchNorm2d
from nasperc.tasks.detection.trained import load_detector
from nasperc.training.detect import detect

CLASSES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def weights() -> State:
    return adelaidet_fcos(len(CLASSES))


@pytest.fixture
def converted(tmp_path: Path):
    def run(state: State, classes: tuple[str, ...] | None = CLASSES, **options: str) -> Conversion:
        source = WeightsFile(tmp_path / "theirs.pth", "sha256 of it", state, None)
        return convert(source, classes=classes, **options)  # type: ignore[arg-type]

    return run


def test_the_same_detections(weights, tmp_path) -> None:
    torch.save({"model": weights, "iteration": 89999}, tmp_path / "theirs.pth")
    convert(read_weights(tmp_path / "theirs.pth"), classes=CLASSES).write(tmp_path / "ours.pt")
    ours = load_detector(tmp_path / "ours.pt")
    assert ours.normalisation.name == "caffe"
    assert ours.classes == CLASSES
    assert (ours.training.test_short_side, ours.training.max_long_side) == (800, 1333)
    rgb = torch.randint(0, 256, (3, 72, 104), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    # As if the image had been twice as wide and half as large again in height before it was resized.
    sample = Sample(rgb, Meta(0, Path("x.png"), (108, 208)))
    (found,) = detect(ours.model, [sample], ours.normalisation, 72, 200)
    with torch.no_grad():
        levels = network(weights, network_input(rgb))
    wanted = detections(levels, 0, (72, 104), (108, 208))
    assert len({each.label for each in wanted}) == len(CLASSES)
    assert 50 < len(wanted) <= 100
    assert found.labels.tolist() == [each.label for each in wanted]
    scores = torch.tensor([each.score for each in wanted])
    torch.testing.assert_close(found.scores, scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.boxes, torch.tensor([each.box for each in wanted]), atol=1e-4, rtol=1e-4)

    model = ours.model
    trained = {
        name.split(".")[1] for name, p in model.backbone.named_parameters(prefix="b") if p.requires_grad
    }
    assert trained == {"layer2", "layer3", "layer4"}
    assert isinstance(model.backbone.bn1, FrozenBatchNorm2d)


def test_every_key_is_accounted_for(weights, converted) -> None:
    report = converted(
        {**weights, "pixel_mean": torch.tensor([103.53, 116.28, 123.675]), "x.y": torch.zeros(1)}
    ).report
    assert set(report.used) == set(weights)
    assert report.left_over == ("pixel_mean", "x.y")
    assert report.missing == report.misfits == report.filled == ()


def test_80_classes_are_those_of_coco(weights, converted) -> None:
    state = dict(weights)
    state[f"{HEAD}cls_logits.weight"], state[f"{HEAD}cls_logits.bias"] = (
        torch.zeros(80, 32, 3, 3),
        torch.zeros(80),
    )
    assert converted(state, None).content["classes"] == list(COCO_CLASSES)
    assert len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[0], COCO_CLASSES[39], COCO_CLASSES[79]) == ("person", "bottle", "toothbrush")
    mine = tuple(f"class {k}" for k in range(80))
    assert converted(state, mine).content["classes"] == list(mine)


def test_one_tower_without_p7(weights, converted, tmp_path) -> None:
    state = real_time(weights)
    conversion = converted(state)
    assert (
        "FPN of 32 from P3 to P6, one tower of 3 x 32, 5 classes, images of 550 to 916" in conversion.network
    )
    conversion.write(tmp_path / "ours.pt")
    ours = load_detector(tmp_path / "ours.pt")
    assert ours.decoder == Baseline(32, 32, 3, ends=(3, 6), merged_tower=True)
    assert len(ours.model.preset.sizes_of_interest) == len(ours.model.levels) == 4
    rgb = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    (found,) = detect(ours.model, [Sample(rgb, Meta(0, Path("x.png"), (64, 96)))], ours.normalisation, 64, 96)
    with torch.no_grad():
        wanted = detections(network(state, network_input(rgb)), 0, (64, 96), (64, 96))
    assert len(wanted) > 50
    assert found.labels.tolist() == [each.label for each in wanted]
    torch.testing.assert_close(found.boxes, torch.tensor([each.box for each in wanted]), atol=1e-4, rtol=1e-4)


def test_options_win(weights, converted, tmp_path) -> None:
    conversion = converted(weights, normalisation="imagenet", stride_in="1x1")
    conversion.write(tmp_path / "ours.pt")
    loaded = load_detector(tmp_path / "ours.pt")
    assert loaded.normalisation.name == "imagenet"
    assert loaded.recipe.backbone.stride_in == "1x1"
    assert converted(weights, normalisation="imagenet").content["detector"]["backbone"]["stride_in"] == "3x3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{HEAD}bbox_tower.9.weight": None}, f"1 missing: {HEAD}bbox_tower.9.weight"),
        ({f"{HEAD}scales.2.scale": None}, r"1 missing: .*scales\.2\.scale"),
        ({"backbone.bottom_up.res4.2.conv2.norm.running_var": None}, r"1 missing: .*res4\.2\.conv2"),
        ({"backbone.top_block.p7.weight": torch.zeros(32, 32, 1, 1)}, r"another shape: .*p7.*\(32, 32, 1, 1\) inst"),
        ({f"{HEAD}cls_logits.weight": None}, "cls_logits.weight"),
        ({f"{HEAD}cls_tower.0.weight": None}, "cls_tower.0.weight"),
        ({"backbone.bottom_up.res2.0.conv2.weight": None}, "without its first block"),
        ({"backbone.bottom_up.res5.3.conv1.weight": torch.zeros(1)}, "3-4-6-4 bottlenecks"),
        ({"backbone.bottom_up.res3.0.conv2_offset.weight": torch.zeros(27, 1, 3, 3)}, "1 missing: .*conv2_offset.bias"),
        ({"backbone.bottom_up.res3.1.conv2_offset.weight": torch.zeros(27, 1, 3, 3)}, r"blocks \[1\] of C3"),
        ({f"{HEAD}share_tower.0.weight": torch.zeros(32, 32, 3, 3)}, "1 unknown: .*share_tower"),
        (
            {"pixel_mean": torch.tensor([103.53, 116.28, 123.675]), "pixel_std": torch.tensor([57.4, 57.1, 58.4])},
            "pixel_mean and pixel_std",
        ),
        ({f"{HEAD}scales.2.scale": torch.tensor([float("nan")])}, "finite .* NaN or infinity in .*scales"),
        ({f"{HEAD}cls_logits.weight": torch.zeros(4, 32, 3, 3)}, "a detector of 4 classes needs 4 names, .* 5 names"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_written(
    weights, converted, tmp_path, change, message
) -> None:
    state = {key: value for key, value in {**weights, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        converted(state).write(tmp_path / "ours.pt")
    assert not (tmp_path / "ours.pt").exists()


def test_classes_that_are_not_coco_must_be_named(weights, converted) -> None:
    with pytest.raises(
        InputError, match=r"a detector of 5 classes needs 5 names, but got none .*--classes FILE"
    ):
        converted(weights, None)


def test_the_source_is_not_replaced(weights, converted, tmp_path) -> None:
    (tmp_path / "theirs.pth").write_bytes(b"theirs")
    with pytest.raises(InputError, match="must not replace its source"):
        converted(weights).write(tmp_path / "theirs.pth")
    assert (tmp_path / "theirs.pth").read_bytes() == b"theirs"
