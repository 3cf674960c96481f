"""Pre-trained backbone weights from a file, checked against the network that they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.torch_files import file_sha256, load_torch_file, not_finite

_CONTAINERS = ("state_dict", "model")
_COUNTER = "num_batches_tracked"
# Of deformable convolutions, which classification networks do not have: they start at zero offsets.
_OFFSETS = ".offset_mask."


class LoadedWeights(NamedTuple):
    """What was loaded: ``used`` and ``left_over`` keys of the file; ``missing`` keys that may be absent."""

    path: Path
    sha256: str
    used: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]


def load_backbone_weights(backbone: nn.Module, path: str | Path) -> LoadedWeights:
    """Load the file at ``path`` into ``backbone``, in place, all or nothing.

    The file is a state dict, or a dict with one under ``state_dict`` or ``model``. Keys that the backbone
    does not have (a classifier) are left over. BatchNorm's counters ``num_batches_tracked`` may be missing or
    superfluous: older files do not have them, frozen BatchNorm does not use them. The offsets of deformable
    convolutions may be missing too: then they stay at their start, regular taps with masks of 0.5.

    Raises:
        InputError: the file is missing, unreadable or damaged, or holds weights of another architecture or such as are
            not finite.
    """
    path = Path(path)
    state = _read(path)
    wanted = backbone.state_dict()
    missing = [key for key in wanted if key not in state]
    absent = [key for key in missing if not key.endswith(_COUNTER) and _OFFSETS not in key]
    if absent:
        raise _other_architecture(path, f"no {absent[0]} ({len(absent)} of {len(wanted)} keys missing)")
    for key in wanted.keys() & state.keys():
        if state[key].shape != wanted[key].shape:
            shapes = f"{tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
            raise _other_architecture(path, f"{key} of shape {shapes}")
    used = {key: value for key, value in state.items() if key in wanted}
    infinite = not_finite(used)
    if infinite is not None:
        raise InputError(
            "backbone weights must be finite numbers",
            value=f"NaN or infinity in {infinite}",
            where=path,
            repair="Download or convert the file again, or choose other weights.",
        )
    backbone.load_state_dict(used, strict=False)
    left_over = tuple(key for key in state if key not in wanted and not key.endswith(_COUNTER))
    return LoadedWeights(path, file_sha256(path), tuple(used), tuple(missing), left_over)


class WeightsRecord(NamedTuple):
    """What a file that ``nasperc convert`` wrote says of its weights, in the words of ``BackboneRecipe``."""

    backbone: str
    normalisation: str
    stride_in: str | None


def read_record(path: Path) -> WeightsRecord | None:
    """The record of a converted file; None for any other file of weights.

    Raises:
        InputError: the file is missing or unreadable.
    """
    content = _load(path)
    if not isinstance(content, dict) or not {"converted_from", "backbone", "normalisation"} <= content.keys():
        return None
    return WeightsRecord(content["backbone"], content["normalisation"], content.get("stride_in"))


def _load(path: Path) -> Any:
    return load_torch_file(
        path,
        rule="backbone weights must be a readable PyTorch file of tensors",
        repair="Check the path, or download or convert the file again.",
    )


def _read(path: Path) -> dict[str, Tensor]:
    content = _load(path)
    for container in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
    tensors = (
        {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if (isinstance(content, dict))
        else {}
    )
    if not tensors:
        raise InputError(
            "backbone weights must be a state dict, or a dict with one under 'state_dict' or 'model'",
            value=type(content).__name__,
            where=path,
            repair="Save the network's state_dict().",
        )
    return tensors


def _other_architecture(path: Path, found: str) -> InputError:
    return InputError(
        "backbone weights must fit the backbone; these are weights of another architecture",
        value=found,
        where=path,
        repair="Choose the backbone (and width_mult) that they were trained for, or other weights.",
    )
