from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from nasperc.errors import InputError
from nasperc.models.fcos.preset import PRESETS, FCOSPreset, get_preset


def test_where_the_two_presets_differ() -> None:
    release, adelaidet = (PRESETS[name].model_dump() for name in ("nas_fcos", "adelaidet"))
    differences = {key: (release[key], adelaidet[key]) for key in release if release[key] != adelaidet[key]}
    assert differences == {
        "name": ("nas_fcos", "adelaidet"),
        "centerness_on": ("cls_tower", "box_tower"),
        "box_activation": ("exp", "relu"),
        "box_unit": ("pixel", "stride"),
        "centre_sampling_radius": (None, 1.5),
        "crowd": ("ignore", "background"),
        "box_loss": ("iou", "giou"),
        "focal_normaliser": ("positives_and_images", "positives"),
        "clip_before_nms": (True, False),
    }


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_survives_json(name: str) -> None:
    preset = get_preset(name)
    back = FCOSPreset.model_validate_json(preset.model_dump_json())
    assert back == preset
    assert back.sizes_of_interest[-1][1] == math.inf


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"nas_fcos, adelaidet.*'retinanet'"):
        get_preset("retinanet")


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="focal_gama"):
        FCOSPreset.model_validate({**PRESETS["nas_fcos"].model_dump(), "focal_gama": 2})
