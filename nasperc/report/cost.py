"""Cost of the model of a recipe, and thesis Table 7.2 counted again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from nasperc.assembly.decoder_recipe import recipe_decoder
from nasperc.assembly.detector import BASELINE_NAMES, Baseline, Decoder, Searched
from nasperc.errors import InputError
from nasperc.evaluation.activations import activation_bytes
from nasperc.evaluation.cost import measure_cost
from nasperc.evaluation.latency import Latency, OnRun, measure_latencies, measure_latency
from nasperc.models.features import padded_size
from nasperc.recipe.reading import load_recipe
from nasperc.recipe.root import Recipe
from nasperc.recipe.thesis import printed_rows
from nasperc.search.components import build_space
from nasperc.tasks.lookup import recipe_task

# Tables of the thesis with costs: their recipes.
TABLES = {"7.2": "table_7_2"}


@dataclass(frozen=True)
class ModelCost:
    """``flops`` by the convention of :mod:`nasperc.evaluation.cost`; ``activation_bytes`` an image in training.

    ``size`` (H, W) in pixels, as the network's images are padded; ``activation_bytes`` and ``latency`` None where they
    were not asked for.
    """

    decoder: str
    backbone: str
    size: tuple[int, int]
    classes: int
    flops: int
    params_total: int
    params_trainable: int
    activation_bytes: int | None
    latency: Latency | None

    @property
    def name(self) -> str:
        """Decoder and backbone, as in Table 7.2."""
        return f"{self.decoder} {self.backbone}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the units of the table: G FLOPs, M parameters (those that are trained), MB, ms."""
        values: dict[str, Any] = {
            "name": self.name,
            "decoder": self.decoder,
            "backbone": self.backbone,
            "size": list(self.size),
            "classes": self.classes,
            "flops_g": self.flops / 1e9,
            "params_m": self.params_trainable / 1e6,
            "params_total_m": self.params_total / 1e6,
        }
        if self.activation_bytes is not None:
            values["activations_mb"] = self.activation_bytes / 1e6
        if self.latency is not None:
            values["latency_ms"] = self.latency.median_s * 1e3
            values["latency"] = self.latency._asdict()
        return values


class TableRow(NamedTuple):
    """A row of the thesis's table, counted; ``thesis``: what is printed there (flops_g, params_m, ap)."""

    cost: ModelCost
    thesis: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As :meth:`ModelCost.to_dict`, and the thesis's figures under ``thesis_...``."""
        return {**self.cost.to_dict(), **{f"thesis_{key}": value for key, value in self.thesis.items()}}


def model_cost(
    recipe: Recipe,
    decoder: Decoder | None = None,
    *,
    name: str | None = None,
    activations: bool = True,
    latency: bool = False,
    on_run: OnRun | None = None,
) -> ModelCost:
    """Cost of a recipe's backbone with a decoder, at the size and for the classes of its section ``cost``.

    Args:
        recipe: its sections ``model``, ``decoder``, ``space`` and ``cost`` count; no weights are read.
        decoder: None: the recipe's own.
        name: of the decoder; None: what it is, and its widths.
        activations: count their memory too.
        latency: measure it too, with random weights.
        on_run: told how far that is.

    Raises:
        InputError: an unreadable architecture; widths that do not fit.
    """
    if decoder is None:
        decoder = recipe_decoder(recipe.decoder, build_space(recipe))
    with torch.device("meta"):
        model = _network(recipe, decoder)
    size = padded_size(recipe.cost.size, getattr(model, "divisor", 1))
    cost = measure_cost(model, size)
    measured = measure_latency(_network(recipe, decoder), size, on_run=on_run) if latency else None
    backbone = recipe.model.backbone.name
    return ModelCost(
        decoder=name or decoder_name(decoder),
        backbone=backbone,
        size=size,
        classes=recipe.cost.classes,
        flops=cost.flops,
        params_total=cost.params_total,
        params_trainable=cost.params_trainable,
        activation_bytes=activation_bytes(model, size) if activations else None,
        latency=measured,
    )


def thesis_table(name: str, *, latency: bool = False, on_run: OnRun | None = None) -> Iterator[TableRow]:
    """The rows of a table of the thesis, in its order, counted again.

    Args:
        name: of the table.
        latency: measure it too, with random weights; all models are in memory then, since their runs take turns.
        on_run: told how far that is.

    Raises:
        InputError: no table of that name has costs.
    """
    if name not in TABLES:
        raise InputError(
            f"a table of the thesis with costs must be one of {', '.join(TABLES)}",
            value=name,
            where="--table",
            repair="Choose one of them.",
        )
    recipe = TABLES[name]
    rows: list[TableRow] = []
    models: list[nn.Module] = []
    for row in printed_rows(recipe):
        decoder, _, backbone = row.name.rpartition(" ")
        model = load_recipe(f"{recipe}:{row.name}")
        counted = model_cost(model, name=decoder, activations=False)
        rows.append(TableRow(replace(counted, backbone=backbone), row.figures))
        if latency:
            models.append(_network(model, recipe_decoder(model.decoder, build_space(model))))
        else:
            yield rows[-1]
    if latency:
        measured = measure_latencies(models, rows[0].cost.size, on_run=on_run, copies=False)
        for table_row, each in zip(rows, measured, strict=True):
            yield table_row._replace(cost=replace(table_row.cost, latency=each))


def decoder_name(decoder: Decoder) -> str:
    """For example ``FPN-FCOS@256`` or ``fcos_decoder@128-256`` (FPN and head)."""
    kind = BASELINE_NAMES[decoder.kind] if isinstance(decoder, Baseline) else decoder.space.name
    return f"{kind}@{'-'.join(str(width) for width in dict.fromkeys(decoder.widths.values()))}"


def _network(recipe: Recipe, decoder: Decoder) -> nn.Module:
    """What an image costs: of the recipe's task, or of the one that a space's own proxy task names."""
    if recipe.task is None and isinstance(decoder, Searched) and decoder.space.proxy is not None:
        proxy = recipe.proxy.model_copy(update={"name": decoder.space.proxy})
        recipe = recipe.model_copy(update={"proxy": proxy})
    return recipe_task(recipe).network(recipe, decoder, recipe.cost.size)
