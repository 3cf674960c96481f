"""Levels of backbone and neck by name: what a branch beside the detection head reads."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec


class NamedLevels:
    """The levels ``names``, e.g. C3 and C5 of a backbone, P3 and P5 of a neck.

    Attributes:
        specs: of these levels, in the order of ``names``.

    Args:
        names: of the levels.
        backbone: what the backbone puts out.
        neck: what the neck puts out.
        where: whose choice this is, for the error.

    Raises:
        InputError: neither of them has a level of that name.
    """

    def __init__(
        self,
        names: Sequence[str],
        backbone: tuple[FeatureSpec, ...],
        neck: tuple[FeatureSpec, ...],
        where: str,
    ) -> None:
        offered = (*backbone, *neck)
        places = {spec.name: place for place, spec in enumerate(offered)}
        unknown = [name for name in names if name not in places]
        if unknown:
            raise InputError(
                "a level must be one that the backbone or the neck puts out",
                value=", ".join(unknown),
                where=where,
                repair=f"Choose of {', '.join(places)}.",
            )
        self._places = tuple(places[name] for name in names)
        self.specs: tuple[FeatureSpec, ...] = tuple(offered[place] for place in self._places)

    def of(self, backbone: Sequence[Tensor], neck: Sequence[Tensor]) -> list[Tensor]:
        """These levels among the outputs of backbone and neck."""
        offered = (*backbone, *neck)
        return [offered[place] for place in self._places]
