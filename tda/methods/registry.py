"""What a method is, and the table that its file enters it into."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from tda.data.splits import Split
from tda.scores.score_files import SIGN
from tda.system.errors import UserError
from tda.system.workers import in_order
from tda.training.members import Member

METHODS: dict[str, "Method"] = {}


@dataclass
class Attribution:
    """One member's scores (n_train, n_test), signed as its method says, and what its solver reports (residuals)."""

    scores: torch.Tensor
    report: dict = field(default_factory=dict)


# Scores the members (checkpoints) of one seed, in their order, one after another.
Scorer = Callable[[list[Member], Split, Split, dict], Iterator[Attribution]]


@dataclass(frozen=True)
class Method:
    """A registered method: short name, title for figures, citation, meaning of the sign, default settings, and its scorer."""

    name: str
    title: str
    citation: str
    sign: str
    settings: dict
    score: Scorer


def register(name: str, title: str, citation: str, sign: str = SIGN, **settings) -> Callable[[Scorer], Scorer]:
    """Enter a scorer of all checkpoints of a seed into the registry, with its default settings."""

    def enter(score: Scorer) -> Scorer:
        METHODS[name] = Method(name, title, citation, sign, settings, score)
        return score

    return enter


def per_member(score_member: Callable[..., Attribution]) -> Scorer:
    """Make a scorer of all checkpoints of a seed from a function (member, train, test, **settings) of one.

    On a CPU the members are scored beside each other, each with one thread.
    """

    def score(members: list[Member], train: Split, test: Split, settings: dict) -> Iterator[Attribution]:
        def score_one(position: int) -> Attribution:
            return score_member(members[position], train, test, **settings)

        positions = range(len(members))
        on_gpu = members[0].device.type == "cuda"
        yield from map(score_one, positions) if on_gpu else in_order(score_one, len(positions))

    return score


def one_after_another(score_member: Callable[..., Attribution]) -> Scorer:
    """Like per_member, for a function that uses forward-mode derivatives, whose state all threads of a process share."""

    def score(members: list[Member], train: Split, test: Split, settings: dict) -> Iterator[Attribution]:
        for member in members:
            yield score_member(member, train, test, **settings)

    return score


def method_named(name: str) -> Method:
    """Look a method up; raises UserError, which lists the known ones."""
    if name not in METHODS:
        raise UserError(f"unknown method {name}; known methods are {', '.join(sorted(METHODS))}")
    return METHODS[name]
