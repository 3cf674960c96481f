"""The recipe section of the backbone, and the table of known backbones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from torch import nn

from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.backbones.resnet import DEFORMABLE_STAGES, RESNETS, ResNet, StrideIn
from nasperc.models.backbones.weights import read_record

NormalisationName = Literal["imagenet", "tf", "caffe"]

# Called with the keyword arguments that _options() makes of the recipe.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": MobileNetV2,
    **{name: partial(ResNet, shape) for name, shape in RESNETS.items()},
}

# torchvision's release files carry the start of their hash in the name; all of them expect mean / std.
_TORCHVISION_RELEASES = (
    "mobilenet_v2-b0353104",
    "mobilenet_v2-7ebf99e0",
    "resnet18-f37072fd",
    "resnet18-5c106cde",
    "resnet50-0676ba61",
    "resnet50-19c8e357",
    "resnet50-11ad3fa6",
    "resnet101-63fe2227",
    "resnet101-5d3b4d8f",
    "resnet101-cd907fc2",
    "resnext101_64x4d-173b62eb",
)
_MOBILENET_STAGES, _RESNET_STAGES = 8, 5


class BackboneRecipe(BaseModel):
    """Which backbone, from which weights.

    ``normalisation`` belongs to the weights: null only where it is known without being told (no weights, a
    torchvision release file, a file that ``nasperc convert`` wrote). ``freeze_at`` (stages without gradient,
    the stem being the first) and ``frozen_bn`` are null for "as the weights allow". With weights the stem and
    the first stage are frozen (NAS-FCOS release) and BatchNorm is constant (the release does so with its
    ResNets; its MobileNetV2, and so Table 7.2, has it trainable). A random initialisation trains everything: a
    constant BatchNorm with made-up statistics would leave it without any normalisation.

    ``blur``: side of the blur that takes the place of a convolution's stride (thesis equation 3.4); null: none.

    MobileNetV2 only: ``width_mult``, factor on the channels.

    ResNets only: ``stride_in``, the convolution of a bottleneck that halves the resolution, null for what the
    weights' normalisation says (see :meth:`bottleneck_stride`); ``deformable_stages`` of 3, 4, 5 (C3 to C5),
    in which the 3x3 of every ``deformable_interval``-th bottleneck is a deformable one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["mobilenet_v2", "resnet18", "resnet50", "resnet101", "resnext101_64x4d"] = "mobilenet_v2"
    weights: Path | None = None
    normalisation: NormalisationName | None = None
    freeze_at: int | None = Field(default=None, ge=0, le=_MOBILENET_STAGES)
    frozen_bn: bool | None = None
    blur: Literal[3, 5, 7] | None = None
    width_mult: float = Field(default=1.0, gt=0, le=8)
    stride_in: StrideIn | None = None
    deformable_stages: tuple[int, ...] = ()
    deformable_interval: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _keys_fit_the_backbone(self) -> Self:
        shape = RESNETS.get(self.name)
        if shape is None:
            if self.stride_in is not None or self.deformable_stages:
                raise ValueError(f"stride_in and deformable_stages are keys of ResNets, not of {self.name}")
            return self
        if self.width_mult != 1.0:
            raise ValueError(f"width_mult is a key of mobilenet_v2, not of {self.name}")
        if self.freeze_at is not None and self.freeze_at > _RESNET_STAGES:
            raise ValueError(f"freeze_at of {self.name} must be 0..{_RESNET_STAGES}, not {self.freeze_at}")
        if not set(self.deformable_stages) <= set(DEFORMABLE_STAGES):
            raise ValueError(f"deformable_stages must be of 3, 4, 5, not {self.deformable_stages}")
        if self.deformable_stages and (shape.groups > 1 or not shape.bottleneck):
            raise ValueError(
                f"{self.name} has no 3x3 convolutions to be made deformable: use a ResNet-50 or 101"
            )
        if self.deformable_stages and self.blur is not None:
            raise ValueError("a deformable convolution has no blur: choose deformable_stages or blur")
        if self.stride_in is not None and not shape.bottleneck:
            raise ValueError(f"stride_in is a key of networks with bottlenecks, not of {self.name}")
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_was_a_blur(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs, caches and checkpoints compare this section with the one that they began with.
        values: dict[str, Any] = handler(self)
        if self.blur is None:
            values.pop("blur", None)
        return values

    def bottleneck_stride(self) -> StrideIn:
        """``stride_in``, or what the weights' kind says.

        The ResNets of MSRA and detectron2, which the normalisation ``caffe`` stands for, have it in the 1x1; those of
        torchvision, and every ResNeXt, in the 3x3.
        """
        if self.stride_in is not None:
            return self.stride_in
        return "1x1" if self.normalisation == "caffe" and RESNETS[self.name].groups == 1 else "3x3"

    def resolved(self) -> BackboneRecipe:
        """With what a converted weights file says of itself, where no normalisation is named.

        To be kept instead of this recipe: a checkpoint is read where the weights file no longer is.

        Raises:
            InputError: the file is unreadable, of another backbone, or was edited.
        """
        if (
            self.weights is None
            or self.normalisation is not None
            or self.weights.stem in _TORCHVISION_RELEASES
        ):
            return self
        record = read_record(self.weights)
        if record is None:
            return self
        if record.backbone != self.name:
            raise InputError(
                "backbone weights must fit the backbone",
                value=f"weights of {record.backbone} for {self.name}",
                where=self.weights,
                repair=f"Set model.backbone.name={record.backbone} (--set).",
            )
        known = {"normalisation": record.normalisation, "stride_in": self.stride_in or record.stride_in}
        try:
            return type(self).model_validate({**self.model_dump(), **known})
        except ValidationError as error:
            raise InputError(
                "a converted file must record what its weights expect",
                value=f"{known} ({error.errors()[0]['msg']})",
                where=self.weights,
                repair="It was edited: convert the weights again.",
            ) from error

    def input_normalisation(self) -> NormalisationName:
        """The normalisation of the images.

        Raises:
            InputError: weights are given whose normalisation cannot be known.
        """
        if self.normalisation is not None:
            return self.normalisation
        if self.weights is None or self.weights.stem in _TORCHVISION_RELEASES:
            return "imagenet"
        raise InputError(
            "the normalisation that backbone weights expect must be named",
            value="null",
            where="recipe key model.backbone.normalisation",
            repair=f"Set imagenet, tf or caffe (--normalisation) for {self.weights}, as its source says.",
        )


def build_backbone(recipe: BackboneRecipe) -> nn.Module:
    """The backbone of ``recipe``, randomly initialised: the weights file, if any, is loaded by the caller.

    Raises:
        InputError: no backbone has that name.
    """
    if recipe.name not in BACKBONES:
        raise InputError(
            f"a backbone must be one of {', '.join(sorted(BACKBONES))}",
            value=repr(recipe.name),
            where="recipe key model.backbone.name",
            repair="Choose one of them.",
        )
    return BACKBONES[recipe.name](**_options(recipe))


def _options(recipe: BackboneRecipe) -> dict[str, Any]:
    """The keyword arguments of the backbone's class."""
    pretrained = recipe.weights is not None
    options: dict[str, Any] = {
        "freeze_at": recipe.freeze_at if recipe.freeze_at is not None else (2 if pretrained else 0),
        "frozen_bn": recipe.frozen_bn if recipe.frozen_bn is not None else pretrained,
        "blur": recipe.blur,
    }
    if recipe.name not in RESNETS:
        return {**options, "width_mult": recipe.width_mult}
    return {
        **options,
        "stride_in": recipe.bottleneck_stride(),
        "deformable_stages": recipe.deformable_stages,
        "deformable_interval": recipe.deformable_interval,
    }
