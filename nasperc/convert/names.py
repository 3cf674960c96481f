"""What other programs call the parameters of our networks: each function maps our name to theirs."""

from __future__ import annotations

import re
from collections.abc import Callable

_DETECTRON2 = (
    (re.compile(r"^(conv1|bn1)\."), r"stem.\1."),
    *((re.compile(rf"^layer{stage - 1}\."), f"res{stage}.") for stage in (2, 3, 4, 5)),
    (re.compile(r"\.downsample\.0\."), ".shortcut."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.norm."),
    (re.compile(r"\.bn(\d)\."), r".conv\1.norm."),
    (re.compile(r"\.conv2\.offset_mask\."), ".conv2_offset."),
)
_CAFFE2_BRANCHES = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
_CAFFE2_NORM = {"weight": "bn_s", "bias": "bn_b", "running_mean": "bn_rm", "running_var": "bn_riv"}
# Of AdelaiDet: its FCOS head, and BlendMask's bottom module with the semantic head in it.
HEAD, BASES = "proposal_generator.fcos_head.", "basis_module."
SEMANTIC_HEAD = f"{BASES}seg_head."
_ADELAIDET = (
    (re.compile(r"^neck\.top\."), "backbone.top_block."),
    (re.compile(r"^head\.towers\.cls_tower\."), f"{HEAD}cls_tower."),
    (re.compile(r"^head\.towers\.box_tower\."), f"{HEAD}bbox_tower."),
    (re.compile(r"^head\.towers\.tower\."), f"{HEAD}share_tower."),
    (re.compile(r"^head\.class_logits\."), f"{HEAD}cls_logits."),
    (re.compile(r"^head\.box\."), f"{HEAD}bbox_pred."),
    (re.compile(r"^head\.centerness\."), f"{HEAD}ctrness."),
    (re.compile(r"^bottom\.network\."), BASES),
    (re.compile(r"^top_layer\.conv\."), "top_layer."),
    # Theirs is one line of layers: convolution, norm and ReLU twice, and the 1x1.
    (re.compile(r"^semantic_head\.0\.(\d)\."), rf"{SEMANTIC_HEAD}\1."),
    (re.compile(r"^semantic_head\.1\.0\."), f"{SEMANTIC_HEAD}3."),
    (re.compile(r"^semantic_head\.1\.1\."), f"{SEMANTIC_HEAD}4."),
    (re.compile(r"^semantic_head\.2\."), f"{SEMANTIC_HEAD}6."),
)
_FPN = re.compile(r"^neck\.(lateral|output)\.(\d)\.")


def torchvision(name: str) -> str:
    """Our ResNets have torchvision's names."""
    return name


def detectron2(name: str) -> str:
    """``layer1.0.bn1.weight`` -> ``res2.0.conv1.norm.weight``."""
    for pattern, theirs in _DETECTRON2:
        name = pattern.sub(theirs, name)
    return name


def detectron2_detector(name: str) -> str:
    """The same inside a detector with an FPN: ``backbone.bottom_up.res2.0.conv1.norm.weight``."""
    return f"backbone.bottom_up.{detectron2(name)}"


def caffe2(name: str) -> str:
    """``layer1.0.bn1.weight`` -> ``res2_0_branch2a_bn_s``: the pickles of MSRA's ResNets."""
    *path, field = detectron2(name).split(".")
    is_norm = path[-1] == "norm"
    if path[0] == "stem":
        module = ["res", "conv1"] if is_norm else ["conv1"]
    else:
        stage, block, layer = path[:3]
        module = [stage, block, _CAFFE2_BRANCHES[layer]]
    return "_".join([*module, _CAFFE2_NORM[field] if is_norm else "w"])


def adelaidet(finest: int = 3, coarsest: int = 7) -> Callable[[str], tuple[str, ...]]:
    """Names of AdelaiDet's FCOS and BlendMask; several where one parameter of ours holds one of theirs a level.

    Args:
        finest, coarsest: levels of the pyramid, whose convolutions are numbered by level there. The head's begin with
            P3.
    """

    def theirs(name: str) -> tuple[str, ...]:
        if name == "head.scales":
            return tuple(f"{HEAD}scales.{level}.scale" for level in range(coarsest - 2))
        if name.startswith("backbone."):
            return (detectron2_detector(name.removeprefix("backbone.")),)
        name = _FPN.sub(lambda found: f"backbone.fpn_{found[1]}{finest + int(found[2])}.", name)
        for pattern, renamed in _ADELAIDET:
            name = pattern.sub(renamed, name)
        return (name,)

    return theirs
