"""What one stage knows of its rejected architectures, and of the reward that the controller sees of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from controllers.costs import CostName
from controllers.service.journal import Event

WINDOW = 100


@dataclass
class Rejections:
    """A fold over the stage's events.

    A rejected architecture was never measured. It is observed as the worst of the last 100 rewards that the
    controller has learnt from, or forgotten: before there is any such reward, and as long as the controller has
    not learnt from as many others, since the last observed one, as an update of it takes. So no update learns
    from two, and those that are observed never stand next to each other.

    Attributes:
        hashes: of the rejected architectures: they are drawn again.
        in_a_row: rejections since the last candidate that kept the limits.
        cheapest: of the rejected ones, by cost.
    """

    hashes: set[str] = field(default_factory=set)
    in_a_row: int = 0
    cheapest: dict[str, float] = field(default_factory=dict)
    _rewards: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _since: int | None = None

    def kept(self) -> None:
        """A candidate kept the limits, whatever became of it."""
        self.in_a_row = 0

    def learnt(self, reward: float) -> None:
        """The controller has learnt from a reward."""
        self._rewards.append(reward)
        if self._since is not None:
            self._since += 1

    def reject(self, event: Event) -> None:
        """A candidate was rejected; ``observed`` says what the controller saw."""
        self.hashes.add(event["hash"])
        self.in_a_row += 1
        for name, amount in event["cost"].items():
            if amount is not None:
                self.cheapest[name] = min(amount, self.cheapest.get(name, amount))
        if event["observed"] is not None:
            self._since = 0

    def reward(self, rewards_per_update: int) -> float | None:
        """What the controller shall observe of the next rejected architecture; None: forget it."""
        if not self._rewards or (self._since is not None and self._since < rewards_per_update):
            return None
        return min(self._rewards)

    def describe(self, limits: Mapping[CostName, float]) -> str:
        """Limits and, where they were counted, the least that a rejected architecture costs."""
        return ", ".join(
            f"{name} limited to {limit:.4g}"
            + (f", the cheapest rejected {self.cheapest[name]:.4g}" if name in self.cheapest else "")
            for name, limit in limits.items()
        )
