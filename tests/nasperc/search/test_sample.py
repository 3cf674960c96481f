"""Architectures drawn from a whole search: of one stage, without repeats, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from controllers.ppo import PPORecipe
from controllers.service.journal import Journal
from nasperc.errors import InputError
from nasperc.recipe.root import ComponentSection, Recipe
from nasperc.search import components
from nasperc.search.run import run_search
from nasperc.search.run_folder import RunFolder
from nasperc.search.sample import draw_sample, sample_controller
from nasperc.search.top10 import read_top10


@pytest.fixture
def run(tmp_path: Path, toy_recipe: Callable[..., Recipe], console: Console) -> RunFolder:
    """18 bodies and 6 heads."""
    return RunFolder(run_search(toy_recipe(), tmp_path / "runs" / "one", console=console).parent)


def test_good_and_bad_ones_of_the_largest_stage(run: RunFolder) -> None:
    file = read_top10(draw_sample(run, 12))
    assert len(file.entries) == 12
    assert {entry.stage for entry in file.entries} == {"body"}
    everything = read_top10(draw_sample(run, 18))
    best = {entry.hash for entry in everything.entries[:12]}
    assert best - {entry.hash for entry in file.entries}


def test_the_seed_decides(run: RunFolder) -> None:
    one, again = draw_sample(run, 5).read_bytes(), draw_sample(run, 5).read_bytes()
    assert one == again
    assert one != draw_sample(run, 5, seed=1).read_bytes()


def test_another_stage(run: RunFolder) -> None:
    assert {entry.stage for entry in read_top10(draw_sample(run, 3, stage="head")).entries} == {"head"}


@pytest.mark.parametrize(("count", "stage"), [(19, None), (1, None), (7, "head"), (3, "tail")])
def test_what_cannot_be_drawn(run: RunFolder, count: int, stage: str | None) -> None:
    with pytest.raises(InputError, match="body 18, head 6"):
        draw_sample(run, count, stage=stage)


def test_a_stage_of_the_journal_alone_names_no_file(run: RunFolder) -> None:
    events, top10 = Journal.read(run.journal), read_top10(run.top10)
    run.journal.unlink()
    journal = Journal(run.journal)
    # What stands in top10.json is compared with it.
    ranked = {entry.id for entry in top10.entries}
    outside = {"stage": "../../outside"}
    moved = [event["stage"] == "body" and event.get("id") not in ranked for event in events]
    journal.append(
        *({**event, **outside} if moves else event for event, moves in zip(events, moved, strict=True))
    )
    journal.close()
    before = sorted(run.path.parent.parent.rglob("*.json"))
    assert {entry.stage for entry in read_top10(draw_sample(run, 3)).entries} == {"head"}
    assert sorted(run.path.parent.parent.rglob("*.json")) == sorted(
        [*before, run.path / "sample-head-3-0.json"]
    )


def test_the_controller_goes_on_as_the_one_that_the_search_trained(
    tmp_path: Path, toy_recipe: Callable[..., Recipe], console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    real = components.controller_factory

    def recording(recipe: Recipe) -> Any:
        make = real(recipe)

        def made_and_kept(*arguments: Any) -> Any:
            made.append(make(*arguments))
            return made[-1]

        return made_and_kept

    ppo = ComponentSection(name="ppo", **PPORecipe(batch=2, learning_rate=0.05).model_dump(mode="json"))
    recipe = toy_recipe().model_copy(update={"controller": ppo})
    monkeypatch.setattr(components, "controller_factory", recording)
    run = RunFolder(run_search(recipe, tmp_path / "runs" / "one", console=console).parent)
    drawn = sample_controller(run, 3)
    assert [sample.hash for sample in drawn] == [sample.hash for sample in sample_controller(run, 3)]

    file, expected = read_top10(run.top10), {}
    while len(expected) < 3:
        architecture = made[-1].propose().architecture
        expected.setdefault(file.space.hash(architecture), architecture)
    assert [(sample.hash, sample.architecture) for sample in drawn] == list(expected.items())
    # One part is free in the last stage; the other is what the stage before found.
    assert {sample.architecture.parts["body"] for sample in drawn} == {drawn[0].architecture.parts["body"]}
    measured = {event["hash"]: event["reward"] for event in Journal.read(run.journal) if "reward" in event}
    assert all(sample.reward == measured.get(sample.hash) for sample in drawn)


def test_more_than_the_controller_can_draw(run: RunFolder) -> None:
    with pytest.raises(InputError, match="in 1000 draws"):
        sample_controller(run, 1000)


def test_a_run_that_has_not_begun(run: RunFolder) -> None:
    run.journal.write_bytes(run.journal.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(InputError, match="must have begun a stage"):
        sample_controller(run, 2)
