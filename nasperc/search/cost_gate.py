"""What a candidate costs, before it is trained: what exceeds a limit is not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from controllers.base import Candidate, Result
from controllers.costs import CostLimits, CostTarget
from proxy_tasks.base import ProxyTask

LATENCY = "latency_ms"


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
            self.cost[LATENCY] = self._latency(candidate)
            self._require([LATENCY])
            reason = self._limits.exceeded(self.cost)
        return None if reason is None else Result("rejected", cost=dict(self.cost), reason=reason)

    def _latency(self, candidate: Candidate) -> float:
        if candidate.latency_ms is not None:
            return candidate.latency_ms
        latency = self._proxy.latency(candidate.architecture, candidate.widths)
        return math.nan if latency is None else 1e3 * latency.median_s

    def _require(self, names: Sequence[str]) -> None:
        for name in names:
            if not math.isfinite(self.cost.get(name, math.nan)):
                raise RuntimeError(f"the proxy task must tell {name}, got {self.cost.get(name)}")
