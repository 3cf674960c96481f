"""What other programs call the parameters of our networks: each function maps our name to theirs."""

from __future__ import annotations

import re

_DETECTRON2 = (
    (re.compile(r"^(conv1|bn1)\."), r"stem.\1."),
    *((re.compile(rf"^layer{stage - 1}\."), f"res{stage}.") for stage in (2, 3, 4, 5)),
    (re.compile(r"\.downsample\.0\."), ".shortcut."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.norm."),
    (re.compile(r"\.bn(\d)\."), r".conv\1.norm."),
)
_CAFFE2_BRANCHES = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
_CAFFE2_NORM = {"weight": "bn_s", "bias": "bn_b", "running_mean": "bn_rm", "running_var": "bn_riv"}
_HEAD = "proposal_generator.fcos_head."
_ADELAIDET = (
    *((re.compile(rf"^neck\.lateral\.{n - 3}\."), f"backbone.fpn_lateral{n}.") for n in (3, 4, 5)),
    *((re.compile(rf"^neck\.output\.{n - 3}\."), f"backbone.fpn_output{n}.") for n in (3, 4, 5)),
    (re.compile(r"^neck\.top\."), "backbone.top_block."),
    (re.compile(r"^head\.towers\.cls_tower\."), f"{_HEAD}cls_tower."),
    (re.compile(r"^head\.towers\.box_tower\."), f"{_HEAD}bbox_tower."),
    (re.compile(r"^head\.class_logits\."), f"{_HEAD}cls_logits."),
    (re.compile(r"^head\.box\."), f"{_HEAD}bbox_pred."),
    (re.compile(r"^head\.centerness\."), f"{_HEAD}ctrness."),
)


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


def adelaidet_fcos(name: str) -> tuple[str, ...]:
    """Names of AdelaiDet's FCOS; several where one parameter of ours holds one of theirs a level."""
    if name == "head.scales":
        return tuple(f"{_HEAD}scales.{level}.scale" for level in range(5))
    if name.startswith("backbone."):
        return (detectron2_detector(name.removeprefix("backbone.")),)
    for pattern, theirs in _ADELAIDET:
        name = pattern.sub(theirs, name)
    return (name,)
