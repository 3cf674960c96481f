"""Random weights under the names and in the files of other programs, spelled out from their own descriptions."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
HEAD = "proposal_generator.fcos_head."


class Draw:
    """Random layers that keep activations of the order of 1."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def normal(self, *shape: int, std: float) -> Tensor:
        return torch.randn(*shape, generator=self.generator) * std

    def conv(
        self, name: str, out: int, into: int, size: int, std: float | None = None, bias: float = 0.0
    ) -> None:
        std = (2 / (into * size * size)) ** 0.5 if std is None else std
        self.state[f"{name}.weight"] = self.normal(out, into, size, size, std=std)
        self.state[f"{name}.bias"] = self.normal(out, std=0.1) + bias

    def norm(self, name: str, channels: int, scale: float = 1.0) -> None:
        self.state[f"{name}.weight"] = scale * (1 + self.normal(channels, std=0.1))
        self.state[f"{name}.bias"] = self.normal(channels, std=0.1)
        self.state[f"{name}.running_mean"] = self.normal(channels, std=0.1)
        self.state[f"{name}.running_var"] = 1 + torch.rand(channels, generator=self.generator)

    def conv_norm(self, name: str, out: int, into: int, size: int, scale: float = 1.0) -> None:
        self.conv(name, out, into, size)
        del self.state[f"{name}.bias"]
        self.norm(f"{name}.norm", out, scale)


def detectron2_resnet(prefix: str = "", blocks: tuple[int, ...] = (3, 4, 6, 3), seed: int = 0) -> State:
    """A ResNet of bottlenecks."""
    draw = Draw(seed)
    # The stem brings pixels of 0..255 down to 1.
    draw.conv_norm(f"{prefix}stem.conv1", 64, 3, 7, scale=0.01)
    into = 64
    for stage, count in enumerate(blocks, start=2):
        width = 64 * 2 ** (stage - 2)
        for block in range(count):
            name = f"{prefix}res{stage}.{block}"
            if block == 0:
                draw.conv_norm(f"{name}.shortcut", 4 * width, into, 1)
            draw.conv_norm(f"{name}.conv1", width, into, 1)
            draw.conv_norm(f"{name}.conv2", width, width, 3)
            draw.conv_norm(f"{name}.conv3", 4 * width, width, 1, scale=0.3)
            into = 4 * width
    return draw.state


def adelaidet_fcos(classes: int, width: int = 32, depth: int = 4, seed: int = 0) -> State:
    """AdelaiDet's FCOS on a ResNet-50; it has some tens of detections in any image."""
    draw = Draw(seed + 1)
    for level, channels in ((3, 512), (4, 1024), (5, 2048)):
        draw.conv(f"backbone.fpn_lateral{level}", width, channels, 1)
        draw.conv(f"backbone.fpn_output{level}", width, width, 3)
    draw.conv("backbone.top_block.p6", width, width, 3)
    draw.conv("backbone.top_block.p7", width, width, 3)
    for tower in ("cls", "bbox"):
        for layer in range(depth):
            draw.conv(f"{HEAD}{tower}_tower.{3 * layer}", width, width, 3)
            draw.state[f"{HEAD}{tower}_tower.{3 * layer + 1}.weight"] = 1 + draw.normal(width, std=0.1)
            draw.state[f"{HEAD}{tower}_tower.{3 * layer + 1}.bias"] = draw.normal(width, std=0.1)
    draw.conv(f"{HEAD}cls_logits", classes, width, 3, std=0.12, bias=-2.5)
    draw.conv(f"{HEAD}bbox_pred", 4, width, 3, std=0.12, bias=1.0)
    draw.conv(f"{HEAD}ctrness", 1, width, 3, std=0.12)
    for level in range(5):
        draw.state[f"{HEAD}scales.{level}.scale"] = torch.tensor([0.6 + 0.2 * level])
    return {**detectron2_resnet("backbone.bottom_up.", seed=seed), **draw.state}


def adelaidet_blendmask(classes: int, *, bases: int = 4, attention: int = 14, seed: int = 0) -> State:
    """AdelaiDet's BlendMask on a ResNet-50, its bottom module narrow."""
    fcos = {key: value for key, value in adelaidet_fcos(classes, seed=seed).items() if ".scales." not in key}
    draw, planes, width = Draw(seed + 2), 8, 32
    blocks = {f"refine.{n}": width for n in range(3)} | {f"tower.{n}": planes for n in (0, 1, 2, 4)}
    for name, into in blocks.items():
        draw.conv(f"basis_module.{name}.0", planes, into, 3)
        del draw.state[f"basis_module.{name}.0.bias"]
        draw.norm(f"basis_module.{name}.1", planes)
    draw.conv("basis_module.tower.5", bases, planes, 1, std=1.5)
    semantic(draw, classes + 1, planes, width)
    draw.conv("top_layer", bases * attention**2, width, 3)
    counters = [f"basis_module.{name}.1.num_batches_tracked" for name in blocks]
    return {**fcos, **draw.state, **dict.fromkeys(counters, torch.tensor(90_000))}


def semantic(draw: Draw, classes: int, planes: int, width: int) -> None:
    """BlendMask's auxiliary head."""
    for layer, into in ((0, width), (3, planes)):
        draw.conv(f"basis_module.seg_head.{layer}", planes, into, 3)
        del draw.state[f"basis_module.seg_head.{layer}.bias"]
        draw.norm(f"basis_module.seg_head.{layer + 1}", planes)
    draw.conv("basis_module.seg_head.6", classes, planes, 1)


def real_time(state: State) -> State:
    """The same with one tower of three layers, without P7 and with one layer less in the bottom module."""
    shared: State = {}
    dropped = (f"{HEAD}scales.4.", "backbone.top_block.p7.", "basis_module.tower.2.")
    for key, value in state.items():
        if key.startswith(f"{HEAD}cls_tower.") and int(key.split(".")[3]) < 9:
            shared[key.replace("cls_tower", "share_tower")] = value
        elif "_tower." not in key and not key.startswith(dropped):
            shared[key] = value
    for after in (4, 5):
        for key in [key for key in shared if key.startswith(f"basis_module.tower.{after}.")]:
            shared[key.replace(f"tower.{after}.", f"tower.{after - 1}.")] = shared.pop(key)
    return shared


def deformable(state: State, interval: int = 3, seed: int = 0) -> State:
    """The same with every so-many-th block of C3 to C5 deformable."""
    draw = Draw(seed + 3)
    for stage, count in ((3, 4), (4, 6), (5, 3)):
        for block in range(0, count, interval):
            width = 64 * 2 ** (stage - 2)
            name = f"backbone.bottom_up.res{stage}.{block}.conv2_offset"
            draw.conv(name, 27, width, 3, std=0.6 / (width * 9) ** 0.5)
    return {**state, **draw.state}


def msra_pickle(resnet: State, *, statistics: bool = False) -> dict[str, np.ndarray]:
    """A ResNet in Caffe2's names: scale and shift only, and the classifier."""
    renamed: dict[str, np.ndarray] = {}
    for key, value in resnet.items():
        if "running" in key and not statistics:
            continue
        key = re.sub(r"\.norm\.weight$", "_bn_s", key)
        key = re.sub(r"\.norm\.bias$", "_bn_b", key)
        key = re.sub(r"\.norm\.running_mean$", "_bn_rm", key)
        key = re.sub(r"\.norm\.running_var$", "_bn_riv", key)
        key = re.sub(r"\.weight$", "_w", key)
        key = key.replace("shortcut", "branch1")
        for layer, letter in ((1, "a"), (2, "b"), (3, "c")):
            key = re.sub(rf"^(res\d\.\d+)\.conv{layer}", rf"\1.branch2{letter}", key)
        key = key.replace("stem.conv1_bn", "res_conv1_bn").replace("stem.conv1", "conv1").replace(".", "_")
        renamed[key] = value.numpy()
    return {
        **renamed,
        "conv1_b": np.zeros(64, np.float32),
        "fc1000_w": np.zeros((10, 2048), np.float32),
        "fc1000_b": np.zeros(10, np.float32),
    }
