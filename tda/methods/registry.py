"""What a method is, the table that its file enters it into, and how it gets there: a file is imported once it is needed."""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tda.data.splits import Split
from tda.methods.catalogue import Description, describe, entry_named
from tda.system.errors import UserError
from tda.system.user_files import load_user_file
from tda.system.workers import in_order
from tda.training.members import Member
from tda.training.study import Study

LARGE_MODEL = 2**26
"""Parameters of a model of which one is scored at a time."""

_REGISTERED: dict[str, "Method"] = {}


@dataclass
class Attribution:
    """One member's scores (n_train, n_test), signed as its method says, and what its solver reports (residuals).

    positions: of a method that computes no more than the study asks for, where its scores' rows stand among the training
    examples, as Study.scored says; None of a method that gives them all.
    """

    scores: torch.Tensor
    report: dict = field(default_factory=dict)
    positions: torch.Tensor | None = None

    def of(self, positions: torch.Tensor) -> "Attribution":
        """The scores of some training examples, by their positions (k,); those that a method computed alone are all of them."""
        if self.positions is not None:
            return self
        report = dict(self.report)
        if "train_factor" in report:
            report["train_factor"] = [report["train_factor"][position] for position in positions.tolist()]
        return Attribution(self.scores[positions.to(self.scores.device)], report, positions)


# Scores the members (checkpoints) of one seed, in their order, one after another.
Scorer = Callable[[list[Member], Split, Split, dict], Iterator[Attribution]]
# Raises UserError unless a study has what a method with these settings needs to score these seeds.
Check = Callable[[Study, Sequence[int], dict], None]


@dataclass(frozen=True)
class Method(Description):
    """A registered method: what it says of itself (see Description), its scorer, and the check of what it needs."""

    score: Scorer
    check: Check

    def settings_with(self, changed: Mapping) -> dict:
        """All of its settings, some of them changed; raises UserError for one that it does not have."""
        if unknown := sorted(changed.keys() - self.settings.keys()):
            raise UserError(f"method {self.name} has no setting {unknown[0]}; it has {', '.join(self.settings) or 'none'}")
        return self.settings | changed


def _nothing_needed(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    """The check of a method that needs nothing but the members."""


def of_settings(refuse: Callable[..., None]) -> Check:
    """A check of settings alone, by a function that takes those by name that it looks at, and raises UserError."""
    names = inspect.signature(refuse).parameters

    def check(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
        refuse(**{name: settings[name] for name in names})

    return check


def register(name: str, title: str, citation: str, check: Check = _nothing_needed, **described) -> Callable[[Scorer], Scorer]:
    """Enter a scorer of all checkpoints of a seed into the registry.

    check: called before anything is scored, where the method needs more than the members or has settings that may be wrong
    (of_settings). described: sign, needs and in_all where they are not the usual ones, and the method's settings with their
    defaults; all plain values, for the catalogue reads them without importing the file.
    """
    description = describe(name, title, citation, **described)

    def enter(score: Scorer) -> Scorer:
        _REGISTERED[name] = Method(**vars(description), score=score, check=check)
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

    On a CPU the members are scored beside each other, each with one thread; those of a large model one after another with all
    threads, for their gradients would not fit beside each other.
    """

    def score(members: list[Member], train: Split, test: Split, settings: dict) -> Iterator[Attribution]:
        def score_one(position: int) -> Attribution:
            return score_member(members[position], train, test, **settings)

        positions = range(len(members))
        one_by_one = members[0].device.type == "cuda" or _is_large(members[0])
        yield from map(score_one, positions) if one_by_one else in_order(score_one, len(positions))

    return score


def _is_large(member: Member) -> bool:
    # The model decides, and not how many members there are, so that a score does not depend on which were scored before.
    return sum(parameter.numel() for parameter in member.model.parameters()) > LARGE_MODEL


def one_after_another(score_member: Callable[..., Attribution]) -> Scorer:
    """Like per_member, for a function that uses forward-mode derivatives, whose state all threads of a process share."""

    def score(members: list[Member], train: Split, test: Split, settings: dict) -> Iterator[Attribution]:
        for member in members:
            yield score_member(member, train, test, **settings)

    return score
