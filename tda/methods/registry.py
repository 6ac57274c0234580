"""What a method is, the table that its file enters it into, and how it gets there: a file is imported once it is needed."""

import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tda.data.splits import Split
from tda.methods.catalogue import Description, describe, entry_named
from tda.system.user_files import load_user_file
from tda.system.workers import in_order
from tda.training.members import Member

_REGISTERED: dict[str, "Method"] = {}


@dataclass
class Attribution:
    """One member's scores (n_train, n_test), signed as its method says, and what its solver reports (residuals)."""

    scores: torch.Tensor
    report: dict = field(default_factory=dict)


# Scores the members (checkpoints) of one seed, in their order, one after another.
Scorer = Callable[[list[Member], Split, Split, dict], Iterator[Attribution]]


@dataclass(frozen=True)
class Method(Description):
    """A registered method: what it says of itself (see Description), and its scorer."""

    score: Scorer


def register(name: str, title: str, citation: str, **described) -> Callable[[Scorer], Scorer]:
    """Enter a scorer of all checkpoints of a seed into the registry.

    described: sign, needs and in_all where they are not the usual ones, and the method's settings with their defaults. All are
    plain values, for the catalogue reads them without importing the file.
    """
    description = describe(name, title, citation, **described)

    def enter(score: Scorer) -> Scorer:
        _REGISTERED[name] = Method(**vars(description), score=score)
        return score

    return enter


def load_method(name: str) -> Method:
    """The method of this name, for which its file is imported, and no other.

    Raises UserError, which lists the known methods, for an unknown name, and for a file of the user's that fails.
    """
    entry = entry_named(name)
    if entry.is_own:
        importlib.import_module(f"tda.methods.{entry.file.stem}")
        return _REGISTERED[name]
    return _methods_of(entry.file, entry.file.stat().st_mtime_ns)[name]


@functools.cache
def _methods_of(path: Path, changed: int) -> dict[str, Method]:
    """The methods of a file of the user's; `changed` is when it was, so that a new version is loaded anew."""
    before = dict(_REGISTERED)
    load_user_file(path, f"methods_of_the_user.{path.stem}")
    return {name: method for name, method in _REGISTERED.items() if method is not before.get(name)}


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
