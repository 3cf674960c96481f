"""What a space is that says no more than it must."""

import numpy as np
import pytest
from pydantic import BaseModel

from nasperc.errors import InputError
from search_spaces.base import BuildContext, Decision, SearchSpace, TokenSpace


class Smallest(SearchSpace):
    name = "smallest"
    Recipe = BaseModel
    parts = ("stem", "head")
    variant = "plain"

    def __init__(self, recipe=None):
        pass

    def decisions(self, part):
        kernels = Decision(f"{part}.kernel", "op", ("3", "5"))
        return (kernels, Decision(f"{part}.norm", "norm", ("batch", "group", "none")))[
            : 2 if part == "stem" else 1
        ]


@pytest.fixture
def space():
    return Smallest()


@pytest.fixture
def architecture(space):
    return space.architecture({"stem": (1, 2), "head": (0,)})


def test_everything_is_allowed_and_searched_in_one_stage(space):
    (stage,) = space.stages()
    assert (stage.name, stage.free, stage.fixed, stage.share) == ("smallest", ("stem", "head"), {}, 1.0)
    tokens = TokenSpace(space, stage)
    assert [tokens.allowed(prefix) for prefix in ((), (1,), (1, 2))] == [
        (True,) * 2,
        (True,) * 3,
        (True,) * 2,
    ]
    rng = np.random.default_rng(0)
    assert {space.sample("stem", rng) for _ in range(100)} == {(k, n) for k in range(2) for n in range(3)}


def test_every_architecture_is_a_network_of_its_own(space, architecture):
    assert space.canonical(architecture) == architecture
    others = [space.architecture({"stem": (1, norm), "head": (0,)}) for norm in range(3)]
    assert len({space.hash(each) for each in others}) == 3


def test_it_is_drawn_as_its_choices(space, architecture):
    diagram = space.draw(architecture)
    assert diagram.title == "smallest, variant plain"
    assert [panel.title for panel in diagram.panels] == ["Stem", "Head"]
    stem, _ = diagram.panels
    assert [node.label for node in stem.nodes] == ["stem.kernel = 5", "stem.norm = none"]
    assert [(edge.source, edge.target) for edge in stem.edges] == [("stem.kernel", "stem.norm")]


def test_an_original_part_is_drawn_as_one(space):
    _, head = space.draw(space.architecture({"stem": (0, 0), "head": "original"})).panels
    assert [node.label for node in head.nodes] == ["original"]


def test_it_has_no_modules(space, architecture):
    with pytest.raises(InputError, match="must have a network"):
        space.build(architecture, (), {}, BuildContext(3))
    with pytest.raises(InputError, match="must have a network"):
        space.read_back({})


def test_a_module_is_made_of_the_part_of_its_name_or_of_another():
    class Named(Smallest):
        made_of = {"neck": "stem", "cell": "nowhere"}  # noqa: RUF012

    modules = ("neck", "head", "cell", "stem")
    assert [Smallest().part_of(module) for module in modules] == [None, "head", None, "stem"]
    assert [Named().part_of(module) for module in modules] == ["stem", "head", None, "stem"]


def test_a_task_may_have_no_head():
    with pytest.raises(InputError, match="a task that has heads"):
        BuildContext(3).head(None, ())
