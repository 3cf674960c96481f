"""What a candidate costs, before it is trained: what exceeds a limit is not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from controllers.base import Candidate, Result
from controllers.costs import CostLimits, CostTarget
from nasperc.evaluation.latency import doubt
from proxy_tasks.base import ProxyTask

# Beside a latency that cannot be trusted: the share of a core that was had while it was measured.
LATENCY, CORE_SHARE = "latency_ms", "latency_core_share"


class CostGate:
    """Counts and times only what limits and target ask for; without them it does nothing.

    Args:
        proxy: prepared.
        limits: of the run.
        target: of the run.

    Attributes:
        cost: of the last candidate, as far as it was asked for.
    """

    def __init__(self, proxy: ProxyTask, limits: CostLimits, target: CostTarget | None) -> None:
        self._proxy, self._limits = proxy, limits
        self._counted = sorted(limits.amounts.keys() - {LATENCY})
        self._timed = limits.latency_ms is not None or (target is not None and target.cost == LATENCY)
        self.cost: dict[str, float] = {}

    def reject(self, candidate: Candidate) -> Result | None:
        """The rejection of a candidate that exceeds a limit; None: it may be trained.

        Latency comes last, since it takes time; one that was measured before is taken as it is.

        Raises:
            RuntimeError: the proxy task does not tell a cost that it should know.
        """
        self.cost = {}
        if self._counted:
            self.cost = {name: float(amount) for name, amount in self._proxy.cost(candidate).items()}
        self._require(self._counted)
        reason = self._limits.exceeded(self.cost)
        if reason is None and self._timed:
            self.cost |= self._latency(candidate)
            self._require([LATENCY])
            reason = self._limits.exceeded(self.cost)
            if reason is not None and (doubted := doubt(self.cost.get(CORE_SHARE))) is not None:
                reason = f"{reason}; {doubted}"
        return None if reason is None else Result("rejected", cost=dict(self.cost), reason=reason)

    def _latency(self, candidate: Candidate) -> dict[str, float]:
        if candidate.latency_ms is not None:
            return {LATENCY: candidate.latency_ms}
        latency = self._proxy.latency(candidate.architecture, candidate.widths)
        if latency is None:
            return {}
        doubted = {} if latency.doubt is None else {CORE_SHARE: latency.core_share or 0.0}
        return {LATENCY: 1e3 * latency.median_s, **doubted}

    def _require(self, names: Sequence[str]) -> None:
        for name in names:
            if not math.isfinite(self.cost.get(name, math.nan)):
                raise RuntimeError(f"the proxy task must tell {name}, got {self.cost.get(name)}")
