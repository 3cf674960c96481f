"""What became of a file of weights, and the file of ours that it is written as: whole or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasperc.convert.matching import KeyReport
from nasperc.convert.weights_file import WeightsFile
from nasperc.errors import InputError
from nasperc.torch_files import not_finite
from nasperc.training.checkpoint import save_checkpoint


@dataclass(frozen=True)
class Conversion:
    """What became of a weights file. Nothing is written until :meth:`write`.

    ``kind`` as recognised; ``network``: what it holds, in words; ``report``: its keys; ``content``: of the file to be
    written; ``next_command``: what can be done with that one, ``{out}`` standing for it.
    """

    source: WeightsFile
    kind: str
    network: str
    report: KeyReport
    layers: re.Pattern[str]
    content: dict[str, Any]
    next_command: str

    def check(self) -> None:
        """Check that the network is whole, of finite numbers, and nothing of it would be left out.

        Raises:
            InputError: a key is missing or has another shape; a key of the network's own layers is left over; NaN.
        """
        self.report.require_complete(self.source.path)
        unknown = [key for key in self.report.left_over if self.layers.match(key)]
        if unknown:
            raise InputError(
                "every layer of a network must be known: without one it would compute something else",
                value=f"{len(unknown)} unknown: {unknown[0]}",
                where=self.source.path,
                repair="Nothing was written. Networks with such layers cannot be converted.",
            )
        infinite = not_finite(self.content)
        if infinite is not None:
            raise InputError(
                "weights must be finite numbers",
                value=f"NaN or infinity in {infinite}",
                where=self.source.path,
                repair="Nothing was written. Download the file again, or choose other weights.",
            )

    def write(self, path: Path) -> None:
        """Check, then write.

        Raises:
            InputError: as :meth:`check`; ``path`` is the source or cannot be written.
        """
        self.check()
        if path.resolve() == self.source.path.resolve():
            raise InputError(
                "a converted file must not replace its source",
                value=path,
                where="--out",
                repair="Choose another name.",
            )
        origin = {"file": self.source.path.name, "sha256": self.source.sha256, "kind": self.kind}
        save_checkpoint(path, {**self.content, "converted_from": origin})
