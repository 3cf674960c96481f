"""The tests that every search space must pass: subclass it in the tests of a space, or of a plugin."""

import json

import numpy as np
import pytest
from raw_networks import DIFFERENT, RawNetworks
from torch import nn

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from search_spaces.base import ORIGINAL, Architecture, SearchSpace, TokenSpace


class SearchSpaceContract:
    """Set ``space`` (an instance), ``inputs`` (the features that its modules are built on) and ``networks``, which
    states the space's allowed rewrites."""

    space: SearchSpace
    inputs: tuple[FeatureSpec, ...]
    networks: RawNetworks
    samples = 8

    def architectures(self) -> list[Architecture]:
        sampled = []
        for seed in range(self.samples):
            rng = np.random.default_rng(seed)
            parts = {part: self.space.sample(part, rng) for part in self.space.parts}
            sampled.append(self.space.architecture(parts))
        return sampled

    def widths(self) -> dict[str, int]:
        return dict(self.space.stages()[0].widths)

    def build(self, architecture: Architecture) -> dict[str, nn.Module]:
        return self.space.build(architecture, self.inputs, self.widths(), self.networks.context)

    def test_decisions_are_named_once_and_have_choices(self):
        decisions = [decision for part in self.space.parts for decision in self.space.decisions(part)]
        assert len({decision.name for decision in decisions}) == len(decisions)
        assert all(decision.choices and decision.kind for decision in decisions)

    @pytest.mark.parametrize("preference", ["first", "last", "any"])
    def test_allowed_never_leads_to_a_dead_end(self, preference):
        rng = np.random.default_rng(0)
        for part in self.space.parts:
            for _ in range(20 if preference == "any" else 1):
                tokens: tuple[int, ...] = ()
                for decision in self.space.decisions(part):
                    mask = self.space.allowed(part, tokens)
                    assert len(mask) == len(decision.choices)
                    choices = np.flatnonzero(mask)
                    assert len(choices)
                    pick = {"first": 0, "last": -1, "any": rng.integers(len(choices))}[preference]
                    tokens += (int(choices[pick]),)
                parts = {name: tokens if name == part else ORIGINAL for name in self.space.parts}
                self.space.validate(
                    Architecture(self.space.name, self.space.version, self.space.variant, parts), where="test"
                )

    def test_the_same_generator_draws_the_same_tokens(self):
        for part in self.space.parts:
            one, other = (self.space.sample(part, np.random.default_rng(5)) for _ in range(2))
            assert one == other

    def test_json_and_back(self):
        for architecture in self.architectures():
            text = json.dumps(self.space.to_dict(architecture))
            assert self.space.from_dict(json.loads(text), where="test") == architecture

    def test_an_edited_token_does_not_fit_the_hash(self):
        architecture, other = self.architectures()[:2]
        values = self.space.to_dict(architecture) | {"parts": other.to_dict()["parts"]}
        with pytest.raises(InputError, match="hash"):
            self.space.from_dict(values, where="test")

    def test_canonical_is_valid_idempotent_and_keeps_the_hash(self):
        for architecture in self.architectures():
            canonical = self.space.canonical(architecture)
            self.space.validate(canonical, where="test")
            assert self.space.canonical(canonical) == canonical
            assert self.space.hash(canonical) == self.space.hash(architecture)

    def test_what_is_built_is_what_was_sampled(self):
        for architecture in self.architectures():
            assert self.space.read_back(self.build(architecture)) == architecture.parts

    @pytest.mark.parametrize("index", range(4))
    def test_the_canonical_form_tells_networks_apart(self, index):
        """By ``random_architectures.py`` at length, with another seed."""
        found = self.networks.examine(1, index).comparison
        assert found is not None
        assert found.same(found.pair)
        assert found.change >= DIFFERENT
        assert found.same(found.alike)

    def test_rewrites_lead_to_other_tokens_and_keep_the_canonical_form(self):
        found = 0
        for seed, architecture in enumerate(self.architectures()):
            rewritten, _ = self.networks.rewrite(architecture, np.random.default_rng(seed))
            assert self.space.hash(rewritten) == self.space.hash(architecture)
            found += rewritten != architecture
        assert found > self.samples / 2

    def test_stages_cover_the_parts_and_the_budget(self):
        stages = self.space.stages()
        assert sum(stage.share for stage in stages) == pytest.approx(1)
        assert len({stage.name for stage in stages}) == len(stages)
        for stage in stages:
            assert sorted((*stage.free, *stage.fixed)) == sorted(self.space.parts)
            assert stage.free

    def test_each_stage_is_one_token_sequence(self):
        best = self.architectures()[0].parts
        for stage in self.space.stages():
            space = TokenSpace(self.space, stage, best)
            rng = np.random.default_rng(1)
            tokens: tuple[int, ...] = ()
            for _ in space.decisions:
                tokens += (int(rng.choice(np.flatnonzero(space.allowed(tokens)))),)
            architecture = space.architecture(tokens)
            assert space.tokens(architecture) == tokens
            for part, fixed in stage.fixed.items():
                assert architecture.parts[part] == (best[part] if fixed == "best" else fixed)
            modules = self.space.build(architecture, self.inputs, stage.widths, self.networks.context)
            assert self.space.read_back(modules) == architecture.parts

    def test_wrong_tokens_are_refused_with_their_position(self):
        architecture = self.architectures()[0]
        for part in self.space.parts:
            tokens = architecture.parts[part]
            beyond = len(self.space.decisions(part)[-1].choices)
            for bad, message in (
                (tokens[:-1], f"{len(tokens)} tokens"),
                ((*tokens[:-1], beyond), f"token {len(tokens) - 1} of {part}"),
                ((-1, *tokens[1:]), f"token 0 of {part}"),
            ):
                with pytest.raises(InputError, match=message):
                    self.space.architecture({**architecture.parts, part: bad})

    def test_the_diagram_is_whole(self):
        for architecture in self.architectures():
            diagram = self.space.draw(architecture)
            assert diagram.panels
            for panel in diagram.panels:
                ids = {node.id for node in panel.nodes}
                assert len(ids) == len(panel.nodes)
                assert len({(node.column, node.row) for node in panel.nodes}) == len(panel.nodes)
                assert {end for edge in panel.edges for end in (edge.source, edge.target)} <= ids
