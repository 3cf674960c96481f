"""The best candidates of a search as a table, with what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from controllers.costs import CostTarget, objective
from controllers.service.journal import Event
from nasperc.evaluation.latency import doubt
from nasperc.plain_console import plain
from nasperc.search.cost_gate import CORE_SHARE, LATENCY
from proxy_tasks.base import Progress, ProxyTask
from search_spaces.base import SearchSpace


def ranking_table(
    events: Sequence[Event],
    space: SearchSpace,
    proxy: ProxyTask,
    target: CostTarget | None,
    journal: Path,
    on_progress: Progress,
) -> tuple[Table, str | None]:
    """Rank completions; those that no worker has timed are timed now, in turns.

    Args:
        events: completions, in the order of their ranks.
        space: of their architectures.
        proxy: measures latencies.
        target: what rewards were measured against beside; None: nothing.
        journal: that they come from, for messages.
        on_progress: called while latencies are measured.

    Returns:
        The table, and why its latencies cannot be trusted; None where they can.
    """
    architectures = [
        space.from_dict({**event["architecture"], "hash": event["hash"]}, where=str(journal))
        for event in events
    ]
    known = [event["cost"].get(LATENCY) for event in events]
    timed = {number: latency_ms for number, latency_ms in enumerate(known) if latency_ms is not None}
    untimed = [number for number in range(len(events)) if number not in timed]
    pairs = [(architectures[number], events[number]["widths"]) for number in untimed]
    measured = dict(zip(untimed, proxy.latencies(pairs, on_progress), strict=True))
    captions = ["as the workers measured it, on one thread"] if timed else []
    captions += sorted(
        {f"median latency of one image ({each.device})" for each in measured.values() if each is not None}
    )
    shares = [event["cost"].get(CORE_SHARE) for event in events]
    shares += [each.core_share for each in measured.values() if each is not None]
    penalised = [] if target is None else ["penalised"]
    table = Table("rank", "stage", "candidate", "reward", *penalised, "hash", "MACs", "parameters", "ms")
    table.caption = plain(f"ms: {'; '.join(captions)}") if captions else None
    for number, event in enumerate(events):
        costs = [event["cost"].get(key) for key in ("flops", "params")]
        latency, latency_ms = measured.get(number), timed.get(number)
        if latency is not None:
            latency_ms = 1e3 * latency.median_s
        table.add_row(
            str(number + 1),
            plain(event["stage"]),
            str(event["id"]),
            f"{event['reward']:.4f}",
            *([] if target is None else [f"{objective(event):.4f}"]),
            plain(event["hash"][:8]),
            *("-" if cost is None else f"{cost:.3g}" for cost in costs),
            "-" if latency_ms is None else f"{latency_ms:.1f}",
        )
    return table, doubt(min((share for share in shares if share is not None), default=None))
