import json
from importlib import resources
from itertools import product

import pytest
import torch
from contract import SearchSpaceContract
from fcos_networks import FcosNetworks
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nasperc.assembly.detector import FCOSContext
from nasperc.errors import InputError
from nasperc.evaluation.cost import measure_cost
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.features import FeatureSpec
from nasperc.models.necks.fpn import FPN
from nasperc.plugins import load_component
from search_spaces.base import BuildContext
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

SPACES = {name: FcosDecoder(FcosDecoderRecipe(variant=name)) for name in ("nas_fcos", "thesis")}
INPUTS = (
    FeatureSpec("C2", 4, 4),
    FeatureSpec("C3", 6, 8),
    FeatureSpec("C4", 8, 16),
    FeatureSpec("C5", 10, 32),
)
CONTEXT = FCOSContext(num_classes=3, preset=PRESETS["nas_fcos"])


def reference():
    text = (resources.files("experiments") / "nas_fcos_reference.json").read_text()
    return SPACES["nas_fcos"].from_dict(json.loads(text), where="nas_fcos_reference.json")


def features(height=64, width=96, batch=1):
    return [torch.randn(batch, spec.channels, height // spec.stride, width // spec.stride) for spec in INPUTS]


@st.composite
def architectures(draw, space):
    parts = {}
    for part in space.parts:
        tokens = ()
        for _ in space.decisions(part):
            allowed = [choice for choice, ok in enumerate(space.allowed(part, tokens)) if ok]
            tokens += (draw(st.sampled_from(allowed)),)
        parts[part] = tokens
    return space.architecture(parts)


class TestNasFcosVariant(SearchSpaceContract):
    space = SPACES["nas_fcos"]
    inputs = INPUTS
    networks = FcosNetworks("nas_fcos")


class TestThesisVariant(SearchSpaceContract):
    space = SPACES["thesis"]
    inputs = INPUTS
    networks = FcosNetworks("thesis")


class TestJointMode(SearchSpaceContract):
    space = FcosDecoder(FcosDecoderRecipe(mode="joint", stage_widths={"joint": {"fpn": 32, "head": 64}}))
    inputs = INPUTS
    networks = FcosNetworks("nas_fcos", head_width=64)


def test_it_is_registered():
    assert load_component("space", "fcos_decoder") is FcosDecoder


def test_the_neck_is_made_of_the_fpn():
    assert [SPACES["nas_fcos"].part_of(module) for module in ("neck", "head", "cell")] == [
        "fpn",
        "head",
        None,
    ]


def test_a_task_without_heads_is_refused():
    with pytest.raises(InputError, match="a task that has heads"):
        SPACES["nas_fcos"].build(reference(), INPUTS, {"fpn": 32, "head": 32}, BuildContext(3))


def test_the_head_is_the_task_s():
    class Context(BuildContext):
        def head(self, towers, levels):
            return torch.nn.ModuleDict({"towers": towers})

    modules = SPACES["nas_fcos"].build(reference(), INPUTS, {"fpn": 32, "head": 64}, Context(3))
    assert list(modules["head"].keys()) == ["towers"]
    assert modules["head"]["towers"].out_channels == 64


@pytest.mark.parametrize("variant", SPACES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_architecture_runs_and_gives_the_five_levels(variant, data):
    space = SPACES[variant]
    architecture = data.draw(architectures(space))
    torch.manual_seed(0)
    modules = space.build(architecture, INPUTS, {"fpn": 32, "head": 64}, CONTEXT)
    neck, head = modules["neck"], modules["head"]
    levels = neck(features())
    # 64 x 96 pixels at strides 8 to 128; stride-2 convolutions round up.
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    assert [tuple(level.shape) for level in levels] == [(1, 64, *size) for size in sizes]
    assert neck.out == tuple(
        FeatureSpec(f"P{level}", 64, stride) for level, stride in enumerate((8, 16, 32, 64, 128), start=3)
    )
    output = head(levels)
    assert [tuple(x.shape[1:]) for x in output.class_logits] == [(3, *size) for size in sizes]
    sum(x.square().mean() for x in (*output.class_logits, *output.boxes, *output.centerness)).backward()
    without_gradient = {
        name.split(".")[1]
        for name, parameter in neck.named_parameters()
        if name.startswith("adapters") and parameter.grad is None
    }
    used = {id for start in range(0, 35, 5) for id in architecture.parts["fpn"][start : start + 2]}
    assert {int(index) for index in without_gradient} == set(range(len(neck.adapters))) - used
    assert all(p.grad is not None for name, p in neck.named_parameters() if not name.startswith("adapters"))
    assert all(p.grad is not None for p in head.towers.parameters())


def brute_force_allowed(prefix):
    """Choices for the next id by trying every id of the blocks that follow."""
    position = len(prefix)
    rest = [slot for slot in range(position + 1, 35) if slot % 5 < 2]
    given_ids = {id for slot, id in enumerate(prefix) if slot % 5 < 2}
    allowed = []
    for choice in range(4 + position // 5):
        completions = product(*(range(4 + slot // 5) for slot in rest))
        consumed = ({id for id in (*given_ids, choice, *ids) if id >= 4} for ids in completions)
        allowed.append(any(7 - len(each) >= 3 for each in consumed))
    return tuple(allowed)


STARTS = (
    (0, 0, 4, 0, 5, 4, 6, 5, 7, 0),
    (0, 0, 4, 4, 5, 0, 5, 1, 2, 0),
    (0, 0, 4, 4, 5, 6, 3, 1, 2, 0),
    (0,) * 10,
)
MORE = ((), (8,), (1,), (8, 2), (2, 8), (2, 8, 9), (3, 3, 0))


@pytest.mark.parametrize(
    "ids",
    [start + more for start in STARTS for more in MORE if len({id for id in start + more if id >= 4}) <= 4],
)
def test_allowed_agrees_with_trying_every_completion(ids):
    """The ids of five blocks and of some of the last two; operations and aggregation do not matter."""
    pairs = [ids[index : index + 2] for index in range(0, len(ids), 2)]
    prefix = tuple(token for pair in pairs for token in (pair if len(pair) == 1 else (*pair, 0, 0, 0)))
    assert SPACES["nas_fcos"].allowed("fpn", prefix) == brute_force_allowed(prefix)
    assert all(SPACES["thesis"].allowed("fpn", prefix))


def test_the_reference_runs():
    modules = SPACES["nas_fcos"].build(reference(), INPUTS, {"fpn": 32, "head": 32}, CONTEXT)
    assert len(modules["head"](modules["neck"](features())).boxes) == 5


@pytest.mark.parametrize(
    ("widths", "gflops", "params"),
    [((128, 128), 39.3, 5.9), ((128, 256), 95.6, 9.9), ((256, 256), 121.8, 16.1)],
)
def test_the_reference_costs_what_table_7_2_prints(widths, gflops, params):
    """NAS-FCOS rows with MobileNetV2: BatchNorm of the backbone trainable, stages up to C2 frozen."""
    with torch.device("meta"):
        backbone = MobileNetV2(freeze_at=3, frozen_bn=False)
        context = FCOSContext(num_classes=80, preset=PRESETS["nas_fcos"])
        modules = SPACES["nas_fcos"].build(
            reference(), backbone.out, dict(zip(("fpn", "head"), widths, strict=True)), context
        )
        modules["neck"].run_unused_adapters = True
        cost = measure_cost(FCOS(backbone, modules["neck"], modules["head"]).eval())
    assert cost.flops / 1e9 == pytest.approx(gflops, rel=0.002)
    assert round(cost.flops / 1e9, 1) == gflops
    assert round(cost.params_trainable / 1e6, 1) == params


def test_original_parts_are_the_model_cores_own():
    space = SPACES["nas_fcos"]
    tokens = reference().parts
    neck_only = space.build(
        space.architecture({"fpn": tokens["fpn"], "head": "original"}),
        INPUTS,
        {"fpn": 32, "head": 32},
        CONTEXT,
    )
    assert isinstance(neck_only["head"].towers, FCOSTowers)
    head_only = space.build(
        space.architecture({"fpn": "original", "head": tokens["head"]}),
        INPUTS,
        {"fpn": 32, "head": 32},
        CONTEXT,
    )
    assert isinstance(head_only["neck"], FPN)
    assert space.read_back(head_only) == {"fpn": "original", "head": tokens["head"]}


@pytest.mark.parametrize(
    "widths",
    [{"fpn": 48, "head": 64}, {"fpn": 64}, {"fpn": 0, "head": 64}, {"fpn": 64, "head": 64, "cell": 64}],
)
def test_widths_that_do_not_fit_are_refused(widths):
    with pytest.raises(InputError, match="multiples of 32"):
        SPACES["nas_fcos"].build(reference(), INPUTS, widths, CONTEXT)


def test_a_head_narrower_than_the_fpn_is_refused():
    with pytest.raises(InputError, match="multiple of the neck"):
        SPACES["nas_fcos"].build(reference(), INPUTS, {"fpn": 64, "head": 32}, CONTEXT)


def test_a_backbone_without_the_pools_strides_is_refused():
    without_c2 = INPUTS[1:]
    with pytest.raises(InputError, match="stride 4"):
        SPACES["nas_fcos"].build(reference(), without_c2, {"fpn": 32, "head": 32}, CONTEXT)
    tokens = (0, 0, 0, 0, 0) * 7
    thesis = SPACES["thesis"].architecture({"fpn": tokens, "head": "original"})
    assert SPACES["thesis"].build(thesis, without_c2, {"fpn": 32, "head": 32}, CONTEXT)


def test_stages_of_each_mode():
    progressive = FcosDecoder(FcosDecoderRecipe()).stages()
    assert [(s.name, s.free, dict(s.fixed), dict(s.widths), s.share) for s in progressive] == [
        ("fpn", ("fpn",), {"head": "original"}, {"fpn": 64, "head": 64}, 0.75),
        ("head", ("head",), {"fpn": "best"}, {"fpn": 128, "head": 128}, 0.25),
    ]
    (alone,) = FcosDecoder(FcosDecoderRecipe(mode="head")).stages()
    assert (alone.free, dict(alone.fixed), alone.share) == (("head",), {"fpn": "original"}, 1.0)
    recipe = FcosDecoderRecipe(
        mode="joint",
        stage_widths={"joint": {"fpn": 32, "head": 64}},
        overrides={"joint": {"iterations": 9}, "fpn": {"iterations": 1}},
    )
    (joint,) = FcosDecoder(recipe).stages()
    assert (joint.free, dict(joint.widths)) == (("fpn", "head"), {"fpn": 32, "head": 64})
    assert joint.overrides == {"iterations": 9}


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "other"},
        {"shares": (0.5, 0.4)},
        {"shares": (1.0, 0.0)},
        {"stage_widths": {"fpn": {"fpn": 48, "head": 64}}},
        {"stage_widths": {"neck": {"fpn": 64, "head": 64}}},
        {"unknown": 1},
    ],
)
def test_wrong_recipes_are_refused(wrong):
    with pytest.raises(ValidationError):
        FcosDecoderRecipe.model_validate(wrong)
