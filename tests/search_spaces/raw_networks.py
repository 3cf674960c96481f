"""What the canonical form of a search space claims, tried out on raw networks, weight by weight.

A space's tests derive :class:`RawNetworks`, state its allowed rewrites and say how its modules are run; the shared
contract and ``random_architectures.py`` do the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from raw_weights import State, alike_state, place, random_state
from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from search_spaces.base import ORIGINAL, Architecture, BuildContext, Part, SearchSpace

# Deviations are in float64, relative to the largest value of an output. Additions in another order come to 1e-15, and
# a GroupNorm of the few pixels of a coarse level enlarges that by up to 1 / sqrt(eps) = 316, layer after layer; what
# another network computes is further off by orders of magnitude. Beyond SAME it is looked up how far rounding takes
# the very same network: outputs that are not off by more than so many times that are the same.
SAME = 1e-8
ROUNDINGS = 100
DIFFERENT = 1e-6
# Of eight architectures one has a part that is left as it is in the original network.
ORIGINAL_SHARE = 1 / 8
MOVES = 20
# Networks are different if some weights tell them apart. With a few in a thousand the changed layer reaches no output,
# since every channel behind it meets a ReLU that is silent there: so many weights and features are tried.
DRAWS = 5
# Of so many architectures one is compared with its canonical form itself.
TRY_CANONICAL = 8


class Rewritten(NamedTuple):
    """``carry`` gives the weights of the network before their names (and order) in the one after."""

    architecture: Architecture
    carry: Callable[[State], State]


# One small allowed change, drawn at random; None where the draw does not apply.
Rewrite = Callable[[Architecture, np.random.Generator], Rewritten | None]


class NotFiniteError(ArithmeticError):
    """An output or a gradient is NaN or infinite."""


class Comparison(NamedTuple):
    """A random architecture beside others.

    ``rewritten``: other tokens of the same network, None where the moves led nowhere else; ``pair``: how far its
    outputs are off. ``changed``: a single token differs, so that the canonical form does; ``change``: how far
    the outputs are off, with the last of ``draws`` weights. ``kept``: single-token changes drawn before that, which
    kept the canonical form; ``alike``: how far the outputs of these are off, and of the canonical form itself if it
    was tried, with weights that :meth:`RawNetworks.alike_state` makes. ``rounding``: how far rounding alone takes the
    outputs, the largest of those that were asked for it.
    """

    rewritten: Architecture | None
    pair: float
    changed: Architecture
    change: float
    draws: int
    kept: int
    alike: float
    rounding: float = 0.0

    def same(self, off: float) -> bool:
        """Whether outputs that are ``off`` by so much are those of one network."""
        return off <= max(SAME, ROUNDINGS * self.rounding)


class Examination(NamedTuple):
    """A random architecture that was trained a step, and what its comparison found if there was one."""

    architecture: Architecture
    comparison: Comparison | None


class RawNetworks(ABC):
    """The networks of ``space`` on small ``inputs``, of the tokens as they are: never of the canonical ones."""

    space: SearchSpace
    inputs: tuple[FeatureSpec, ...]
    widths: Mapping[str, int]
    rewrites: tuple[Rewrite, ...]
    context = BuildContext(num_classes=3)
    # Height and width in pixels; not square, and so small that the coarsest feature is one pixel wide.
    image = (64, 32)

    @abstractmethod
    def outputs(self, modules: nn.ModuleDict, features: list[Tensor]) -> list[Tensor]:
        """All that the network puts out for ``features``."""

    def features(self, batch: int, dtype: torch.dtype, generator: torch.Generator) -> list[Tensor]:
        """Random features (batch, C, H, W) as ``inputs``."""
        height, width = self.image
        return [
            torch.randn(
                batch,
                spec.channels,
                height // spec.stride,
                width // spec.stride,
                dtype=dtype,
                generator=generator,
            )
            for spec in self.inputs
        ]

    def draw(self, rng: np.random.Generator) -> Architecture:
        """A random architecture; now and then with an ``"original"`` part, never with nothing else."""
        parts: dict[str, Part] = {part: self.space.sample(part, rng) for part in self.space.parts}
        if len(parts) > 1 and rng.random() < ORIGINAL_SHARE:
            parts[str(rng.choice(self.space.parts))] = ORIGINAL
        return self.space.architecture(parts)

    def build(self, architecture: Architecture) -> nn.ModuleDict:
        """The modules of the tokens as they are, which is checked."""
        modules = self.space.build(architecture, self.inputs, self.widths, self.context)
        assert self.space.read_back(modules) == architecture.parts
        return nn.ModuleDict(modules)

    def train_step(self, modules: nn.ModuleDict, generator: torch.Generator) -> None:
        """Forward and backward of a network just built, in training mode and float32.

        Raises:
            NotFiniteError: an output or a gradient is not finite.
        """
        outputs = self.outputs(modules, self.features(2, torch.float32, generator))
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        require_finite("an output", outputs)
        require_finite("a gradient", [p.grad for p in modules.parameters() if p.grad is not None])

    def run(self, modules: nn.ModuleDict, state: State, features: list[Tensor]) -> list[Tensor]:
        """Outputs in evaluation mode with the weights ``state``: every one of them must be there, and no other.

        Raises:
            NotFiniteError: an output is not finite.
        """
        place(modules, state)
        with torch.no_grad():
            outputs = self.outputs(modules.eval(), features)
        require_finite("an output", outputs)
        return outputs

    def rewrite(self, architecture: Architecture, rng: np.random.Generator) -> Rewritten:
        """``MOVES`` random rewrites, one after another."""
        carries = []
        for _ in range(MOVES):
            rewritten = self.rewrites[rng.integers(len(self.rewrites))](architecture, rng)
            if rewritten is not None:
                architecture = rewritten.architecture
                carries.append(rewritten.carry)

        def carry(state: State) -> State:
            for each in carries:
                state = each(state)
            return state

        return Rewritten(architecture, carry)

    def change_a_token(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Another valid architecture, one of whose tokens differs."""
        places = [
            (part, position)
            for part, tokens in architecture.parts.items()
            if tokens != ORIGINAL
            for position in range(len(tokens))
        ]
        while True:
            part, position = places[rng.integers(len(places))]
            tokens = list(architecture.parts[part])
            tokens[position] = int(rng.integers(len(self.space.decisions(part)[position].choices)))
            try:
                changed = self.space.architecture({**architecture.parts, part: tuple(tokens)})
            except InputError:
                # Not allowed after, or before, the other tokens.
                continue
            if changed != architecture:
                return changed

    def examine(self, seed: int, index: int, *, compare: bool = True) -> Examination:
        """Architecture ``index`` of those of ``seed``: trained a step and, to ``compare``, rewritten and changed.

        Raises:
            NotFiniteError: an output or a gradient is not finite.
            AssertionError: what was built is not what was asked for, or a rewrite altered the canonical form.
        """
        rng = np.random.default_rng((seed, index))
        generator = torch.Generator().manual_seed(int(rng.integers(2**60)))
        architecture = self.draw(rng)
        self.space.validate(architecture, where="random architecture")
        canonical = self.space.canonical(architecture)
        self.space.validate(canonical, where="its canonical form")
        torch.manual_seed(int(rng.integers(2**60)))
        modules = self.build(architecture)
        self.train_step(modules, generator)
        if not compare:
            return Examination(architecture, None)
        tried = [canonical] if index % TRY_CANONICAL == 0 else []
        return Examination(architecture, self.compare(architecture, modules, tried, rng, generator))

    def compare(
        self,
        architecture: Architecture,
        modules: nn.ModuleDict,
        tried: list[Architecture],
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> Comparison:
        """``architecture``, built as ``modules``, beside ``tried``, rewritten, and with one token changed."""
        canonical = self.space.canonical(architecture)
        features = self.features(1, torch.float64, generator)
        state = random_state(modules, {}, generator)
        outputs = self.run(modules, state, features)

        rewritten, carry = self.rewrite(architecture, rng)
        assert self.space.canonical(rewritten) == canonical, f"{rewritten} has another canonical form"
        pair = rounding = 0.0
        if rewritten != architecture:
            pair = deviation(outputs, self.run(self.build(rewritten), carry(state), features))
            if pair > SAME:
                rounding = self.rounding(modules, state, features)

        kept = []
        while self.space.canonical(changed := self.change_a_token(architecture, rng)) == canonical:
            kept.append(changed)
        alike = max((self.alike(architecture, other, features) for other in (*tried, *kept)), default=0.0)
        if alike > SAME:
            rounding = max(rounding, self.rounding(modules, self.alike_state(modules), features))
        other = self.build(changed)
        for draws in range(1, DRAWS + 1):
            # Where names and shapes allow it the changed layer keeps its weights too: another dilation must then be
            # seen by the dilation alone.
            change = deviation(outputs, self.run(other, random_state(other, state, generator), features))
            if change >= DIFFERENT or draws == DRAWS:
                break
            features = self.features(1, torch.float64, generator)
            state = random_state(modules, {}, generator)
            outputs = self.run(modules, state, features)
        found = None if rewritten == architecture else rewritten
        return Comparison(found, pair, changed, change, draws, len(kept), alike, rounding)

    def alike(self, architecture: Architecture, other: Architecture, features: list[Tensor]) -> float:
        """Deviation of two architectures that nobody knows how to map onto one another, with weights that make the
        mapping irrelevant."""
        one, two = (
            self.run(modules, self.alike_state(modules), features)
            for modules in (self.build(architecture), self.build(other))
        )
        return deviation(one, two)

    def rounding(self, modules: nn.ModuleDict, state: State, features: list[Tensor]) -> float:
        """How far the outputs are off when the features differ in their last digit."""
        generator = torch.Generator().manual_seed(0)
        digit = torch.finfo(torch.float64).eps
        nearby = [
            x * (1 + digit * (2 * torch.randint(2, x.shape, generator=generator, dtype=x.dtype) - 1))
            for x in features
        ]
        return deviation(self.run(modules, state, features), self.run(modules, state, nearby))

    def alike_state(self, modules: nn.Module) -> State:
        """Weights that no allowed rewrite alters."""
        return alike_state(modules)


def require_finite(name: str, tensors: list[Tensor]) -> None:
    """
    Raises:
        NotFiniteError: some value of ``tensors`` is NaN or infinite.
    """
    if not torch.cat([tensor.flatten() for tensor in tensors]).isfinite().all():
        raise NotFiniteError(f"{name} is not finite")


def deviation(outputs: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference of two lists of outputs, each relative to its output's largest value."""
    return max(
        float((one - other).abs().max() / one.abs().max().clamp(min=1e-6))
        for one, other in zip(outputs, others, strict=True)
    )
