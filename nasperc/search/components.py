"""From a resolved recipe to the components of a run: driver and workers build theirs from the same values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from controllers.base import Controller
from controllers.service.plan import SearchPlan
from controllers.service.resume import ControllerFactory
from controllers.service.service import ControllerService
from controllers.service.warm_start import WarmStart
from nasperc.errors import InputError
from nasperc.plugins import load_component
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.journal_beside import check_journal_beside
from nasperc.search.recorded_recipe import recorded_recipe
from nasperc.search.run_folder import RunFolder
from proxy_tasks.base import Findings, ProxyTask, TaskContext
from proxy_tasks.cache_check import CacheCheck
from search_spaces.base import SearchSpace, TokenSpace

# The worker ends a candidate at its limit; the service, which cannot, hands it to another slot a while later.
_SERVICE_LIMIT_FACTOR, _SERVICE_LIMIT_EXTRA_S = 1.1, 30.0


def build_space(recipe: Recipe) -> SearchSpace:
    """The search space of a recipe.

    Raises:
        InputError: unknown space or option.
    """
    component = load_component("space", recipe.space.name)
    space: SearchSpace = component(component.Recipe.model_validate(recipe.space.options))
    return space


def controller_factory(recipe: Recipe) -> ControllerFactory:
    """What makes the controller of a stage from its decisions and a seed."""
    component = load_component("controller", recipe.controller.name)
    options = component.Recipe.model_validate(recipe.controller.options)

    def make(tokens: TokenSpace, seed: int) -> Controller:
        controller: Controller = component(tokens, options, seed)
        return controller

    return make


def build_proxy(
    recipe: Recipe,
    space: SearchSpace,
    folder: Path,
    *,
    check: CacheCheck | None = None,
    began_with: str | None = None,
    known: Mapping[str, Any] | None = None,
) -> ProxyTask:
    """The proxy task of a recipe.

    Args:
        recipe: resolved.
        space: its search space.
        folder: holds what it prepares and is shared by runs.
        check: a driver's, of the caches that it finds.
        began_with: of a resumed run: the fingerprint of the proxy task that stands in its journal.
        known: in a worker: what the driver's task knows.

    Raises:
        InputError: unknown proxy task or option; it asks for a section that no recipe has.
    """
    component = load_component("proxy", recipe.proxy.name)
    options = component.Recipe.model_validate(recipe.proxy.options)
    context = TaskContext(
        space=space,
        model=recipe.model,
        data=recipe.data,
        folder=folder,
        seed=recipe.seed,
        sections={name: _section(recipe, name) for name in component.sections},
        check=check,
        began_with=began_with,
        known=known,
    )
    task: ProxyTask = component(options, context)
    return task


def _section(recipe: Recipe, name: str) -> BaseModel:
    section = getattr(recipe, name, None)
    if not isinstance(section, BaseModel):
        known = [each for each in Recipe.model_fields if isinstance(getattr(recipe, each), BaseModel)]
        raise InputError(
            "a proxy task may ask for sections of the recipe only",
            value=name,
            where=f"proxy task {recipe.proxy.name}",
            repair=f"Name one of {', '.join(known)}.",
        )
    return section


def build_plan(recipe: Recipe) -> SearchPlan:
    """Budget and terms of a run, as the controller service takes them."""
    search = recipe.search
    limit_s = search.candidate_time_limit_s * _SERVICE_LIMIT_FACTOR + _SERVICE_LIMIT_EXTRA_S
    return SearchPlan.model_validate(
        {
            "seed": recipe.seed,
            "candidates": search.candidates,
            "seconds": search.seconds,
            "slots": 1 if search.executor == "local" else search.workers,
            "candidate_time_limit": limit_s,
            "early_stop_k": search.early_stop_k,
            "early_stop_minimum": search.early_stop_minimum,
            "limits": search.limits,
            "cost_target": search.cost_target,
            "outside_selection": search.select != "proxy" or _prepares_stages(recipe),
        }
    )


def _prepares_stages(recipe: Recipe) -> bool:
    component = load_component("proxy", recipe.proxy.name)
    return bool(component.prepares_stages(component.Recipe.model_validate(recipe.proxy.options)))


def build_warm_start(recipe: Recipe, space: SearchSpace, findings: Findings) -> WarmStart | None:
    """What the controllers of a run learn from beforehand; None: nothing."""
    if not recipe.search.warm_start:
        return None
    return WarmStart(
        recipe.search.warm_start, space, findings.fingerprint, build_plan(recipe), findings.earlier
    )


def open_service(
    recipe: Recipe | Mapping[str, Any],
    folder: Path,
    session: str,
    findings: Findings | None = None,
    begin: bool = False,
) -> ControllerService:
    """The controller service of a run folder, rebuilt from its journal if there is one.

    Args:
        recipe: resolved.
        folder: of the run.
        session: names the driver.
        findings: of the driver about the proxy task; None: nothing is known.
        begin: the run is a new one, which no other driver has begun.

    Raises:
        InputError: the run has another writer; its journal does not fit the recipe, or not the rankings beside it.
    """
    if not isinstance(recipe, Recipe):
        recipe = parse_recipe(recipe, where=str(folder))
    check_journal_beside(RunFolder(folder), None if begin else recipe)
    space, findings = build_space(recipe), findings or Findings()
    return ControllerService(
        folder,
        space,
        controller_factory(recipe),
        build_plan(recipe),
        session=session,
        begin=begin,
        recipe=recorded_recipe(recipe),
        fingerprint=findings.fingerprint,
        warm_start=build_warm_start(recipe, space, findings),
    )
