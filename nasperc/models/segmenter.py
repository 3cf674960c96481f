"""Segmentation of single images, and what a dynamic cell needs of the network that does it (thesis 6.3.1).

Legend used in shapes: N images, C channels, K classes, H and W the size of a level.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec

# What the thesis calls the encoder's outputs, by their strides, and the decoder's output.
LEVEL_STRIDES = {"layer2": 8, "layer3": 16, "layer4": 32}
DEC, DEC_STRIDE = "dec", 8


class DecoderOutput(NamedTuple):
    """``dec`` (N, C, H, W) at 1/8: what the classifier reads. ``auxiliary``: maps on the way to it, any size."""

    dec: Tensor
    auxiliary: list[Tensor]


class SegmentationDecoder(Protocol):
    """``forward(features) -> DecoderOutput``; ``out`` describes ``dec``, ``auxiliary_channels`` the other maps."""

    out: FeatureSpec
    auxiliary_channels: tuple[int, ...]

    def __call__(self, features: list[Tensor]) -> DecoderOutput: ...


class SegmenterOutput(NamedTuple):
    """``logits`` (N, K, H, W) at 1/8 of the image; ``auxiliary``: logits of the auxiliary classifiers, any size;
    ``dec`` (N, C, H, W) at 1/8 and ``levels``, layers 2, 3 and 4 of the encoder."""

    logits: Tensor
    auxiliary: list[Tensor]
    dec: Tensor
    levels: list[Tensor]


class StaticSegmenter(nn.Module, ABC):
    """A per-frame network that a dynamic cell can be put on: any that offers this.

    ``levels``: layers 2, 3 and 4 of its encoder at 1/8, 1/16 and 1/32 of the image. ``dec``: the decoder's output
    at 1/8. ``classifier`` (the thesis's *pred*): 3x3 convolution from ``dec`` to K classes.
    """

    levels: tuple[FeatureSpec, ...]
    dec: FeatureSpec
    classifier: nn.Conv2d

    @abstractmethod
    def encode(self, images: Tensor) -> list[Tensor]:
        """The encoder's outputs of ``images`` (N, 3, H, W): all that the decoder reads; the last three are
        ``levels``."""

    @abstractmethod
    def decode(self, features: list[Tensor]) -> DecoderOutput:
        """The decoder's output of what :meth:`encode` gave."""

    @property
    def cell_inputs(self) -> tuple[FeatureSpec, ...]:
        """What a dynamic cell is built on: ``levels``, then ``dec``."""
        return (*self.levels, self.dec)

    def auxiliary_logits(self, output: DecoderOutput) -> list[Tensor]:
        """Of the auxiliary classifiers, for their losses; none by default."""
        return []

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Normalised ``images`` (N, 3, H, W) of any size -> logits at 1/8 of it, rounded up."""
        features = self.encode(images)
        decoded = self.decode(features)
        auxiliary = self.auxiliary_logits(decoded) if self.training else []
        return SegmenterOutput(self.classifier(decoded.dec), auxiliary, decoded.dec, features[-3:])


class Segmenter(StaticSegmenter):
    """Backbone -> decoder -> classifier, with a 3x3 auxiliary classifier for each of the decoder's other maps.

    Args:
        backbone: keeps the contract of ``features.py``; its features end with those of strides 8, 16 and 32.
        decoder: built on ``backbone.out``.
        num_classes: K.
        auxiliary: whether there are auxiliary classifiers, which serve training only.

    Raises:
        InputError: the features or the decoder's output have other strides.
    """

    def __init__(
        self, backbone: nn.Module, decoder: nn.Module, num_classes: int, *, auxiliary: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, decoder
        self.levels = _named_levels(backbone.out)  # type: ignore[arg-type]
        dec: FeatureSpec = decoder.out  # type: ignore[assignment]
        if dec.stride != DEC_STRIDE:
            raise InputError(
                f"a static segmentation network must decode to a stride of {DEC_STRIDE}",
                value=dec.stride,
                where="decoder",
                repair="Choose another decoder.",
            )
        self.dec = dec._replace(name=DEC)
        self.classifier = nn.Conv2d(dec.channels, num_classes, 3, padding=1)
        channels: tuple[int, ...] = decoder.auxiliary_channels if auxiliary else ()  # type: ignore[assignment]
        self.auxiliary = nn.ModuleList(nn.Conv2d(each, num_classes, 3, padding=1) for each in channels)

    def encode(self, images: Tensor) -> list[Tensor]:
        return self.backbone(images)

    def decode(self, features: list[Tensor]) -> DecoderOutput:
        return self.decoder(features)

    def auxiliary_logits(self, output: DecoderOutput) -> list[Tensor]:
        if not self.auxiliary:
            return []
        return [classify(each) for classify, each in zip(self.auxiliary, output.auxiliary, strict=True)]


def _named_levels(features: tuple[FeatureSpec, ...]) -> tuple[FeatureSpec, ...]:
    last = features[-len(LEVEL_STRIDES) :]
    if [spec.stride for spec in last] != list(LEVEL_STRIDES.values()):
        raise InputError(
            "a static segmentation network needs encoder outputs that end with strides 8, 16 and 32",
            value=", ".join(f"{spec.name} of stride {spec.stride}" for spec in features) or "none",
            where="backbone features",
            repair="Choose a backbone that offers C3, C4 and C5.",
        )
    return tuple(spec._replace(name=name) for name, spec in zip(LEVEL_STRIDES, last, strict=True))
