"""The scalars of a search for TensorBoard: a function of the journal, so a resumed run writes them anew."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from controllers.costs import objective
from controllers.service.journal import Event
from nasperc.search.progress import SearchProgress
from nasperc.shown_text import printable
from nasperc.whole_files import refuse_link


class SearchScalars:
    """Writes scalars; the step is the number of candidates done, the time is the event's own.

    ``reward/{candidate,halfway,best,moving_average}``, with a cost target ``reward/penalised`` (what it takes off is
    off best and mean, too); ``controller/{baseline,entropy,approx_kl,...}`` as the
    controller reports them; ``share/<kind>/<choice>`` over the last 50 proposals; ``candidate/seconds``.
    """

    def __init__(self, folder: Path) -> None:
        refuse_link(folder)
        shutil.rmtree(folder, ignore_errors=True)
        self._hook = threading.excepthook
        threading.excepthook = self._without_full_disks
        self._writer = SummaryWriter(str(folder))

    def apply(self, event: Event, progress: SearchProgress) -> None:
        """Write what ``event`` changed; ``progress`` has taken it already."""
        kind = event["event"]
        if kind == "update":
            for name, value in progress.diagnostics.items():
                self._write(f"controller/{name}", value, event, progress)
        if kind == "completion":
            self._write("reward/candidate", event["reward"], event, progress)
            if "penalty" in event:
                self._write("reward/penalised", objective(event), event, progress)
            assert progress.best is not None
            assert progress.moving_average is not None
            self._write("reward/best", progress.best, event, progress)
            self._write("reward/moving_average", progress.moving_average, event, progress)
        if kind in {"completion", "stop"} and event["halfway"] is not None:
            self._write("reward/halfway", event["halfway"], event, progress)
        if kind in {"completion", "stop", "failure"}:
            self._write("candidate/seconds", event["seconds"], event, progress)
            for (decision, choice), share in progress.choice_shares().items():
                self._write(f"share/{decision}/{choice}", share, event, progress)

    def flush(self) -> None:
        """Make everything visible to a TensorBoard that is open."""
        self._writer.flush()

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._hook

    def _without_full_disks(self, raised: threading.ExceptHookArgs) -> None:
        # The writer's own thread: whoever writes next raises the same error, so its traceback says nothing new.
        if not isinstance(raised.exc_value, OSError):
            self._hook(raised)

    def _write(self, tag: str, value: float, event: Event, progress: SearchProgress) -> None:
        self._writer.add_scalar(
            printable(tag).replace(" ", "_"), value, progress.done, walltime=event["time"]
        )
