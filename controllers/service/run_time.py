"""The time of a run: seconds that it was at work, whatever happened to the wall clock meanwhile.

``run_start`` and ``run_resume`` name a boot of the machine and, as ``zero``, a reading of that boot's monotonic clock
(:func:`time.monotonic`, on Linux ``CLOCK_MONOTONIC``: the same for every process of the machine). Every event carries
in ``at`` the seconds since its session's zero. These spans are summed. The clock does not count while the machine is
suspended: nothing was trained then, so a budget and a candidate's limit do not count it either. Readings of several
machines are never compared: all are of the one on which service and driver run.

Events of older versions have the wall clock's ``time`` alone. Between two of them a step back counts 0 s, and none
counts more than a candidate may take.
"""

from __future__ import annotations

import math
from pathlib import Path

from controllers.service.journal import Event

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str | None:
    """Names the time since this machine was booted; None where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except OSError:
        return None


class RunTime:
    """A fold over a run's events, in their order.

    Attributes:
        seconds: of work up to the last event, all sessions together.
        began: ``seconds`` when the session began.
        zero: the reading of the monotonic clock at which it did; None where it is not known.
    """

    def __init__(self) -> None:
        self.seconds = self.began = 0.0
        self.zero: float | None = None
        self._session: str | None = None
        self._boot: str | None = None
        self._elsewhere = 0.0
        self._wall: float | None = None
        self._longest = math.inf

    def take(self, event: Event) -> bool:
        """Take the next event; True where a session begins with it."""
        begins = event["event"] in ("run_start", "run_resume") and not self._counts_on(event)
        if event["event"] == "run_start":
            self._longest = event["plan"].get("candidate_time_limit") or math.inf
        if begins:
            self.began = self.seconds
            self.zero, self._boot = event.get("zero"), event.get("boot")
            self._session, self._wall = event.get("session"), None
        if "at" in event:
            self.seconds = max(self.seconds, self.began + event["at"])
        else:
            longest = self._longest + (event["seconds"] if event["event"] == "selection" else 0.0)
            passed = 0.0 if self._wall is None else event["time"] - self._wall
            self.seconds += min(max(0.0, passed), longest)
        self._wall = event["time"]
        if event["event"] == "selection":
            self._elsewhere += event["seconds"]
        return begins

    def going_on(self, session: str, boot: str | None, reading: float) -> float:
        """The zero of a service that opens the run now: the last one's, below the same driver on the same boot.

        Args:
            session: names the driver.
            boot: of this machine, by :func:`boot_id`.
            reading: of the monotonic clock, now.
        """
        known = self.zero is not None and session == self._session and boot is not None and boot == self._boot
        if known and self.zero is not None and self.at(reading) >= self.seconds:
            return self.zero
        return reading

    def at(self, reading: float) -> float:
        """Seconds of work at a reading of the session's monotonic clock, which may lie before the last event."""
        return self.seconds if self.zero is None else self.began + (reading - self.zero)

    def counted(self, seconds: float) -> float:
        """What counts as the run's of its first ``seconds`` of work: not what selections between stages took."""
        return max(0.0, seconds - self._elsewhere)

    def _counts_on(self, event: Event) -> bool:
        """Whether a ``run_resume`` is of a service that was restarted below the same driver."""
        zero = event.get("zero")
        return zero is not None and (zero, event.get("boot"), event.get("session")) == (
            self.zero,
            self._boot,
            self._session,
        )
