"""The table of known decoders of segmentation networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nasperc.errors import InputError
from nasperc.models.decoders.arch2 import DiscoveredDecoder
from nasperc.models.decoders.deeplab_v3_plus import DeepLabV3PlusDecoder
from nasperc.models.features import FeatureSpec
from nasperc.models.segmenter import Segmenter

# By the name of the whole network: the decoder, built on the backbone's features.
SEGMENTERS: dict[str, Callable[[tuple[FeatureSpec, ...]], nn.Module]] = {
    "arch2": DiscoveredDecoder,
    "deeplab_v3_plus": DeepLabV3PlusDecoder,
}


def build_segmenter(
    name: str, backbone: nn.Module, num_classes: int, *, auxiliary: bool = False
) -> Segmenter:
    """The segmentation network ``name`` on ``backbone``; ``auxiliary``: with its auxiliary classifiers.

    Raises:
        InputError: no network has that name; the backbone's features do not fit it.
    """
    if name not in SEGMENTERS:
        raise InputError(
            f"a segmentation network must be one of {', '.join(sorted(SEGMENTERS))}",
            value=repr(name),
            where="segmentation network",
            repair="Choose one of them.",
        )
    decoder = SEGMENTERS[name](backbone.out)  # type: ignore[arg-type]
    return Segmenter(backbone, decoder, num_classes, auxiliary=auxiliary)
