"""The contract of a search space: decisions, which choices are allowed, canonical form, stages, modules.

A space is made of *parts* (``fcos_decoder``: ``fpn`` and ``head``). Each part is a sequence of decisions, or
is left ``"original"``: then the model core's own module stands there. Parts do not constrain one another.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn

import numpy as np
from pydantic import BaseModel
from torch import nn

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from search_spaces.architecture import ORIGINAL, Architecture, Part, Tokens, parse_architecture
from search_spaces.diagram import Diagram, Panel

# Channels that a file may ask for: more would be a slip of the finger or an attempt on the memory.
WIDEST = 8192


class Decision(NamedTuple):
    """One decision: ``name`` such as ``fpn.block3.op1``; ``kind`` groups decisions in plots (``op``, ...)."""

    name: str
    kind: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """One stage of a search.

    ``free``: parts that are searched. ``fixed``: the others: tokens, ``"original"``, or ``"best"``: what the
    best architecture of the stages before has. ``share``: fraction of the budget (candidates or time).
    ``overrides``: proxy recipe keys that differ in this stage.
    """

    name: str
    free: tuple[str, ...]
    fixed: Mapping[str, Part | Literal["best"]]
    widths: Mapping[str, int]
    share: float = 1.0
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildContext:
    """What a space needs to know of the task that its modules are for; the task gives it.

    This one is of tasks without heads. ``num_classes``: K, without background.
    """

    num_classes: int

    def head(self, towers: nn.Module, levels: tuple[FeatureSpec, ...]) -> nn.Module:
        """The task's head, with its predictors, on towers that the space has built; it keeps them as ``towers``.

        Args:
            towers: see :class:`nasperc.models.features.Towers`.
            levels: what the neck puts out.

        Raises:
            InputError: the task has no head, or none for these levels.
        """
        raise InputError(
            "towers must be built for a task that has heads on them",
            value="a task without",
            where="search space",
            repair="Choose a space that builds what the task needs, or another task.",
        )


class SearchSpace(ABC):
    """A pluggable search space. ``Recipe`` is the pydantic model of its recipe section.

    A space must say what its decisions are; all else has a default: every choice is allowed, every architecture a
    network of its own, all parts are searched in one stage, and there are no modules: a proxy task of the space's own
    has to measure it.

    ``proxy``: the proxy task that ``--space`` on the command line brings along; None: the recipe's. ``made_of``: see
    :meth:`part_of`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    proxy: ClassVar[str | None] = None
    made_of: ClassVar[Mapping[str, str]] = {}
    Recipe: ClassVar[type[BaseModel]]
    parts: tuple[str, ...]
    variant: str

    @abstractmethod
    def __init__(self, recipe: BaseModel) -> None: ...

    @abstractmethod
    def decisions(self, part: str) -> tuple[Decision, ...]:
        """The decisions of a part, in order."""

    def allowed(self, part: str, prefix: Tokens) -> tuple[bool, ...]:
        """For the decision after ``prefix``: the choices from which at least one valid completion exists."""
        return (True,) * len(self.decisions(part)[len(prefix)].choices)

    def canonical(self, architecture: Architecture) -> Architecture:
        """One representative of all architectures that are the same network (see ``docs/design.md``)."""
        return architecture

    def stages(self) -> tuple[Stage, ...]:
        """The stages of a search in the recipe's mode."""
        return (Stage(self.name, self.parts, {}, {}),)

    def part_of(self, module: str) -> str | None:
        """The part that a module of :meth:`build` is made of: the one of its name, unless ``made_of`` has another.

        None: there is no such module.
        """
        part = self.made_of.get(module, module)
        return part if part in self.parts else None

    def build(
        self,
        architecture: Architecture,
        inputs: tuple[FeatureSpec, ...],
        widths: Mapping[str, int],
        context: BuildContext,
    ) -> dict[str, nn.Module]:
        """Modules of an architecture on the features ``inputs``: ``neck`` and ``head``, or ``cell``.

        Raises:
            InputError: the space has no modules; the widths or the inputs do not fit the architecture.
        """
        self._refuse_modules()

    def read_back(self, modules: Mapping[str, nn.Module]) -> dict[str, Part]:
        """The parts that built modules really implement, read from the modules themselves.

        Raises:
            InputError: the space has no modules.
            ValueError: they are none of the space's.
        """
        self._refuse_modules()

    def _refuse_modules(self) -> NoReturn:
        raise InputError(
            "an architecture must have a network to be trained or exported",
            value=f"one of the space {self.name}",
            where="search space",
            repair="Search a space that builds networks; one without, like a table of scores, compares controllers.",
        )

    def draw(self, architecture: Architecture) -> Diagram:
        """The diagram of an architecture: by default the choices of each part, one after another."""
        panels = tuple(self._panel(name, part) for name, part in architecture.parts.items())
        return Diagram(f"{self.name}, variant {self.variant}", panels)

    def _panel(self, name: str, part: Part) -> Panel:
        if isinstance(part, str):
            return Panel.chain(name.capitalize(), {name: part})
        choices = {
            decision.name: f"{decision.name} = {decision.choices[token]}"
            for decision, token in zip(self.decisions(name), part, strict=True)
        }
        return Panel.chain(name.capitalize(), choices)

    def architecture(self, parts: Mapping[str, Part]) -> Architecture:
        """A validated architecture of this space and variant."""
        candidate = Architecture(self.name, self.version, self.variant, dict(parts))
        self.validate(candidate, where="architecture")
        return candidate

    def validate(self, architecture: Architecture, *, where: str) -> None:
        """Check everything.

        Raises:
            InputError: another space, version or variant; missing or unknown parts; a token out of range or
                not allowed after those before it.
        """
        for label, value, expected in (
            ("space", architecture.space, self.name),
            ("version", architecture.version, self.version),
            ("variant", architecture.variant, self.variant),
        ):
            if value != expected:
                raise InputError(
                    f"the {label} of an architecture must be {expected!r}",
                    value=repr(value),
                    where=where,
                    repair=f"Open it with --space {architecture.space} and the recipe it came from.",
                )
        if set(architecture.parts) != set(self.parts):
            raise InputError(
                f"an architecture of {self.name} has the parts {', '.join(self.parts)}",
                value=", ".join(architecture.parts) or "none",
                where=where,
                repair='Give every part: its tokens, or "original".',
            )
        for part, tokens in architecture.parts.items():
            if tokens != ORIGINAL:
                assert not isinstance(tokens, str)
                self._validate_tokens(part, tokens, where)

    def _validate_tokens(self, part: str, tokens: Tokens, where: str) -> None:
        decisions = self.decisions(part)
        if len(tokens) != len(decisions):
            raise InputError(
                f"the part {part} has {len(decisions)} tokens",
                value=f"{len(tokens)} tokens",
                where=where,
                repair="Check that the file is whole.",
            )
        for position, (token, decision) in enumerate(zip(tokens, decisions, strict=True)):
            mask = self.allowed(part, tokens[:position])
            if not 0 <= token < len(mask) or not mask[token]:
                choices = ", ".join(str(choice) for choice, ok in enumerate(mask) if ok)
                raise InputError(
                    f"token {position} of {part} ({decision.name}) must be one of {choices}",
                    value=token,
                    where=where,
                    repair="Correct the token, or check space and variant.",
                )

    def sample(self, part: str, rng: np.random.Generator) -> Tokens:
        """Tokens of a part, each drawn uniformly among the allowed choices."""
        tokens: Tokens = ()
        for _ in self.decisions(part):
            choices = np.flatnonzero(self.allowed(part, tokens))
            tokens += (int(rng.choice(choices)),)
        return tokens

    def hash(self, architecture: Architecture) -> str:
        """SHA-256 (hex) of the canonical form."""
        text = json.dumps(self.canonical(architecture).to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self, architecture: Architecture) -> dict[str, Any]:
        """Plain values for an architecture file, with the hash."""
        return {**architecture.to_dict(), "hash": self.hash(architecture)}

    def from_dict(self, values: Any, *, where: str) -> Architecture:
        """Read and validate what :meth:`to_dict` wrote.

        Raises:
            InputError: anything missing, unknown, of the wrong type or not allowed; a hash that does not fit.
        """
        architecture = parse_architecture(values, where=where)
        self.validate(architecture, where=where)
        given = values.get("hash")
        if given is not None and given != self.hash(architecture):
            raise InputError(
                "the hash of an architecture must fit its tokens",
                value=given,
                where=where,
                repair="The file was edited: remove the hash, or restore the tokens.",
            )
        return architecture


class TokenSpace:
    """The free decisions of one stage as one token sequence: all that a controller sees.

    Args:
        space: the search space.
        stage: the stage; its ``"best"`` parts are given in ``best``.
        best: parts of the best architecture of the stages before.
    """

    def __init__(self, space: SearchSpace, stage: Stage, best: Mapping[str, Part] | None = None) -> None:
        self.space, self.stage = space, stage
        self.fixed: dict[str, Part] = {}
        for part, value in stage.fixed.items():
            self.fixed[part] = (best or {})[part] if value == "best" else value
        self._lengths = {part: len(space.decisions(part)) for part in stage.free}
        self.decisions = tuple(decision for part in stage.free for decision in space.decisions(part))

    def allowed(self, prefix: Tokens) -> tuple[bool, ...]:
        """Allowed choices of the decision after ``prefix`` (see :meth:`SearchSpace.allowed`)."""
        for part, length in self._lengths.items():
            if len(prefix) < length:
                return self.space.allowed(part, prefix)
            prefix = prefix[length:]
        raise IndexError("the prefix is already a whole sequence")

    def architecture(self, tokens: Sequence[int]) -> Architecture:
        """The whole architecture that ``tokens`` and the fixed parts make."""
        parts, tokens = dict(self.fixed), tuple(tokens)
        for part, length in self._lengths.items():
            parts[part], tokens = tuple(tokens[:length]), tokens[length:]
        return self.space.architecture(parts)

    def canonical(self, tokens: Sequence[int]) -> Tokens:
        """The free tokens of the canonical form of the architecture that ``tokens`` make."""
        return self.tokens(self.space.canonical(self.architecture(tokens)))

    def tokens(self, architecture: Architecture) -> Tokens:
        """The free tokens of an architecture."""
        free = [architecture.parts[part] for part in self.stage.free]
        return tuple(token for part in free if not isinstance(part, str) for token in part)
