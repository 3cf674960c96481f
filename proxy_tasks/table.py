"""The proxy task of the space ``table``: the score is looked up."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from controllers.base import Candidate, Result
from nasperc.errors import InputError
from proxy_tasks.base import Progress, ProxyTask, TaskContext, no_progress
from search_spaces.table import TableSpace


class TableProxyRecipe(BaseModel):
    """A look-up has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TableProxy(ProxyTask):
    """The reward is the row's score, the metrics are the columns right of it.

    Raises:
        InputError: the space is no table.
    """

    Recipe: ClassVar[type[BaseModel]] = TableProxyRecipe
    # There is nothing to train.
    next_command: ClassVar[str] = "nasperc report {run}"

    def __init__(self, recipe: BaseModel, context: TaskContext) -> None:
        if not isinstance(context.space, TableSpace):
            raise InputError(
                "the proxy task table needs the space table",
                value=context.space.name,
                where="recipe key proxy.name",
                repair="Search with --space table:FILE, or choose another proxy task.",
            )
        self.space = context.space

    def prepare(self, on_progress: Progress = no_progress) -> None:
        """Nothing: the space has read the file."""

    def evaluate(self, candidate: Candidate, on_progress: Progress = no_progress) -> Result:
        (_, reward), *metrics = self.space.scores(candidate.architecture).items()
        return Result("completed", reward, metrics=dict(metrics))

    def notes(self) -> list[str]:
        table = self.space.table
        return [
            f"{self.space.file}: {len(table.scores)} architectures of {len(table.decisions)} decisions; "
            f"reward: {table.columns[0]}"
        ]

    def fingerprint(self) -> str:
        table = self.space.table
        content = [table.decisions, table.choices, table.columns, list(table.scores.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        fingerprint = self.fingerprint()
        return {"data": {"fingerprint": fingerprint, "classes": [], "normalisation": None}, "weights": {}}
