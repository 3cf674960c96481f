"""In what AdelaiDet's BlendMask differs from its FCOS."""

from __future__ import annotations

from nasperc.models.fcos.preset import FCOSPreset


def blendmask_preset(preset: FCOSPreset) -> FCOSPreset:
    """``preset`` as BlendMask has it; any other than ``adelaidet`` stays what it is.

    The score threshold is on class * centerness, and the boxes of a level have no learned scale.
    """
    if preset.name != "adelaidet":
        return preset
    return preset.model_copy(update={"threshold_on": "class_times_centerness", "level_scales": False})
