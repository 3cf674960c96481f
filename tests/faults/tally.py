"""Counts over the whole suite: what was injected, and what was lost by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evidence import check_resumed, check_same_search, lost, repeated, trained_after_completion

from controllers.service.journal import Event, Journal


class Tally:
    """Counts first and asserts afterwards, so that a failure is in the counts as well."""

    def __init__(self) -> None:
        self.injected: Counter[str] = Counter()
        self.completed = self.lost = self.repeated = self.compared = self.equal = 0
        self.damage: Counter[tuple[str, str]] = Counter()
        self.gone: Counter[str] = Counter()

    def fault(self, kind: str) -> None:
        """One more fault of a kind was injected."""
        self.injected[kind] += 1

    def damaged(self, what: str, outcome: str, gone: int = 0) -> None:
        """One more file was damaged or replaced.

        Args:
            what: it was.
            outcome: ``refused``, ``said``, ``mended``, ``not held`` (it changed nothing that another file holds), or
                ``silently wrong``, which no test lets pass.
            gone: completed evaluations that are lost by it, and done again.
        """
        self.damage[what, outcome] += 1
        self.gone[what] += gone
        assert outcome != "silently wrong", what

    def ended(
        self, run: Path, interruptions: Sequence[Sequence[Event]], evaluations: Sequence[dict[str, Any]] = ()
    ) -> None:
        """A run has ended; check it against what its journal held at each interruption.

        Args:
            run: its folder.
            interruptions: the events at each of them.
            evaluations: what the workers noted.
        """
        after = Journal.read(run / "journal.jsonl")
        known = {
            tuple(map(str, (event["stage"], event["hash"])))
            for b in interruptions
            for event in lost(b, after)
        }
        twice = repeated(after)
        again = trained_after_completion(after, evaluations)
        self.completed += sum(event["event"] == "completion" for event in after)
        self.lost += len(known)
        self.repeated += len(twice) + len(again)
        assert after[-1]["event"] == "run_end"
        assert after[-1]["error"] is None
        for before in interruptions:
            check_resumed(before, after)
        assert not twice
        assert not again

    def compare(self, run: Path, undisturbed: Path) -> None:
        """A one-worker run and its undisturbed twin."""
        self.compared += 1
        check_same_search(run, undisturbed)
        self.equal += 1

    def lines(self) -> list[str]:
        """The counts, for people."""
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.injected.items()))
        return [
            f"faults injected: {faults or 'none'}",
            f"completed evaluations: {self.completed}, lost: {self.lost}, repeated: {self.repeated}",
            f"equal top10.json of one-worker runs: {self.equal} of {self.compared}",
            *self._damage_lines(),
        ]

    def _damage_lines(self) -> list[str]:
        """A line for each kind of file."""
        kinds = sorted({what for what, _ in self.damage})
        lines = []
        for kind in kinds:
            outcomes = {outcome: count for (what, outcome), count in self.damage.items() if what == kind}
            counts = ", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items()))
            wrong = outcomes.get("silently wrong", 0)
            lines.append(
                f"{kind}: {counts}; silently wrong {wrong}; completed and done again {self.gone[kind]}"
            )
        return lines
