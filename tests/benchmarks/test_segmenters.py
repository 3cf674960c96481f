import json
import math
import sys

import pytest
import torch
from torch import nn

from benchmarks import mask_rcnn_masks, segmenters
from benchmarks.mask_rcnn_masks import SIDE, MaskRCNNMasks
from benchmarks.planted_head import PlantedHead
from benchmarks.segmenter_step import Step, padded
from benchmarks.segmenters import EVERYWHERE, MASK_RCNN, Case, Everywhere, blender_flops
from nasperc.assembly.detector import Baseline
from nasperc.assembly.recipe import ModelRecipe
from nasperc.models.blendmask.blender import Blender
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.ops.roi_align import roi_align
from nasperc.tasks.instances.models import MODELS, InstancesRecipe, build_segmenter

SIZE = (60, 90)
ONE = ("--model", "blendmask")


def build(name="blendmask", _backbone=""):
    """Narrow."""
    torch.manual_seed(0)
    recipe = ModelRecipe.model_validate({"backbone": {"width_mult": 0.1}})
    options = InstancesRecipe(blendmask=BlendMaskRecipe(region=8, attention=4))
    model = build_segmenter(recipe, options, Baseline(32, 32, 1), 5, load_weights=False)
    if name == MASK_RCNN:
        model = MaskRCNNMasks(model.backbone, model.neck, model.head)
    return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [1, 10, 100])
def test_as_many_objects_are_found_as_are_planted(count):
    model = build().eval()
    towers = model.head.towers
    called = []
    towers.register_forward_hook(lambda *_: called.append(1))
    model.head = PlantedHead(model.head, SIZE)
    took = Case(model, SIZE, count, "blender").run()
    assert called == [1]
    assert 0 < took["part"] < took["whole"]
    assert took["network"] < took["whole"]
    assert all(value > 0 for value in took.values())


def test_planted_boxes_hold_their_locations_and_are_the_same_every_time():
    model = build().eval()
    head = PlantedHead(model.head, SIZE)
    model.head = head
    with torch.no_grad():
        first, again = (model(torch.randn(1, 3, *padded(SIZE, 32))).head.detection for _ in range(2))
    for name in ("class_logits", "boxes", "centerness"):
        for one, other in zip(getattr(first, name), getattr(again, name), strict=True):
            assert torch.equal(one, other)
    assert all((boxes >= 0).all() for boxes in first.boxes)
    # Towers are the network's own.
    assert not torch.equal(first.box_tower[0], again.box_tower[0])


def test_everywhere_is_the_same_network():
    model = build().eval()
    model.head = PlantedHead(model.head, SIZE)
    images = torch.randn(1, 3, *padded(SIZE, 32))
    with torch.no_grad():
        (here,) = model.detect(model(images), [SIZE])
        model.top_layer = Everywhere(model.top_layer)
        output = model(images)
        assert isinstance(output.head.top, list)
        (everywhere,) = model.detect(output, [SIZE])
    assert len(here) > 5
    torch.testing.assert_close(here.masks, everywhere.masks)


def test_the_mask_head_reads_the_level_of_a_box_and_four_convolutions_follow():
    model = build(MASK_RCNN).eval()
    # Of sizes 40, 160, 230 and 900: P3, P3 (of P2), P4 (the canonical one), P5.
    boxes = torch.tensor([[0, 0, 40, 40], [8, 8, 119, 119], [0, 0, 230, 230], [0, 0, 900, 900.0]])
    levels = [0, 0, 1, 2]
    image = torch.zeros(4, dtype=torch.int64)
    with torch.no_grad():
        output = model(torch.randn(1, 3, 256, 256))
        masks = model.masks_at(output, boxes, image, image)
        for box, level, mask in zip(boxes, levels, masks, strict=True):
            x = roi_align(output.neck[level], box[None], image[:1], (SIDE, SIDE), 1 / (8 * 2**level), 2)
            for conv in model.convolutions:
                x = conv(x).relu()
            weight, bias = model.upsampling.weight, model.upsampling.bias
            # The shuffle puts channel 4 c + 2 i + j at row i and column j of channel c.
            up = nn.ConvTranspose2d(256, 256, 2, stride=2, bias=False)
            up.weight = nn.Parameter(weight[:, :, 0, 0].view(256, 2, 2, 256).permute(3, 0, 1, 2).contiguous())
            x = up(x) + bias.view(256, 2, 2).repeat(1, SIDE, SIDE)
            torch.testing.assert_close(model.classes(x.relu())[0, 0].sigmoid(), mask, rtol=1e-3, atol=1e-4)
    assert masks.shape == (4, 2 * SIDE, 2 * SIDE)


def test_the_work_of_the_blender_is_that_of_its_products():
    recipe = BlendMaskRecipe(region=8, attention=4, bases=2)
    blender = Blender(recipe, 4)
    # An instance and basis: 8 x 8 samples of 4 neighbours, (8 x 4) (4 x 4), (8 x 4) (4 x 8), 8 x 8 times scores.
    assert blender_flops(blender, 3) == 3 * 2 * (64 * 4 + 8 * 4 * 4 + 8 * 4 * 8 + 64)


def test_a_step_trains_and_making_mask_targets_is_a_part_of_it():
    model = build()
    before = model.top_layer.conv.weight.detach().clone()
    step = Step(model, SIZE)
    took = step.run()
    assert 0 < took["targets"] < took["step"]
    assert not torch.equal(before, model.top_layer.conv.weight)
    targets = step.targets()
    assert targets.masks.any()
    assert 0.3 < targets.masks.float().sum() / (64 * targets.masks.flatten(2).any(-1).sum()) < 0.9


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_task_can_be_measured(name):
    """As it is built outside of the tests."""
    by_model = segmenters.cases([name], "mobilenet_v2", SIZE)
    for label, by_count in by_model.items():
        case = by_count[max(by_count)]
        took = case.run()
        assert took["whole"] > took["network"] > 0, label
        assert case.flops() > 0
    (first, *_) = segmenters.training([name], "mobilenet_v2", SIZE).values()
    assert first.run()["step"] > 0


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setattr(segmenters, "build", build)
    monkeypatch.setattr(segmenters, "COUNTS", (1, 4))
    monkeypatch.setattr(segmenters, "MOST", 4)
    monkeypatch.setattr(mask_rcnn_masks, "WIDTH", 16)
    monkeypatch.setattr(segmenters, "keep_freed_memory", lambda: False)

    def run(*options):
        size = "x".join(map(str, SIZE))
        monkeypatch.setattr(
            sys,
            "argv",
            ["segmenters.py", "--size", size, "--step-size", size, "--rounds", "1", *ONE, *options],
        )
        segmenters.main()
        return capsys.readouterr().out

    return run


def test_what_it_says(run):
    said = json.loads(run("--json"))
    inference = [f"blendmask, {count} objects" for count in (1, 4)]
    peer = [f"{MASK_RCNN}, {count} objects" for count in (1, 4)]
    everywhere = f"blendmask, {EVERYWHERE}, 4 objects"
    trained = {"blendmask", f"blendmask, {EVERYWHERE}"}
    assert said["ms"].keys() == {*inference, *peer, everywhere, *trained}
    assert all(len(values) == 1 for row in said["ms"].values() for values in row.values())
    names = [bound["name"].removeprefix("blendmask: ") for bound in said["bounds"]]
    assert names == [
        "the blender at 4 objects",
        "4 objects over one",
        "decoding, suppression and pasting of 4 objects",
        "mask targets",
    ]
    for bound in said["bounds"]:
        assert math.isfinite(bound["value"])
        assert bound["held"] == (bound["value"] <= bound["limit"])
    flops = said["flops"]
    # Three locations more, of 64 attentions from 32 channels; and three regions.
    assert flops[inference[1]] - flops[inference[0]] == 3 * 64 * (9 * 32 + 1)
    assert flops[everywhere] > flops[inference[1]]
    conv = SIDE**2 * (16 * (9 * 32 + 1) + 3 * 16 * (9 * 16 + 1) + 4 * 16 * 17 + 4 * 5 * 17)
    assert flops[peer[1]] - flops[peer[0]] == 3 * conv


def test_its_verdicts_are_those_of_the_full_size_and_what_is_missed_is_profiled(run, monkeypatch):
    monkeypatch.setattr(segmenters, "FLAT", 0.0)
    said = run("--profile")
    assert "bound 0: of 800 x 1067 pixels" in said
    assert "aten::" in said
    monkeypatch.setattr(segmenters, "IMAGE", SIZE)
    assert "bound 0: missed" in run()
