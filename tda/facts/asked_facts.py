"""Which facts are asked for: those that training texts state and that the members have learned to answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tda.data.splits import Split
from tda.facts.answers import Answers, as_answers, measured_answers
from tda.system.errors import UserError
from tda.training.ensembles import said_at_last
from tda.training.study import Study


@dataclass(frozen=True)
class AskedFacts:
    """positions (F,) int64 in the test split, and the names of the facts asked there. states: (n_train, F) bool, which training
    texts state each. answers: of each seed's last checkpoint, (S, F).
    """

    positions: np.ndarray
    names: list[str]
    states: np.ndarray
    answers: Answers

    def __len__(self) -> int:
        return len(self.positions)


def stating_texts(train: Split, names: Sequence[str]) -> np.ndarray:
    """Which training texts state each of the facts, (n_train, F) bool."""
    place = {name: number for number, name in enumerate(names)}
    found = np.zeros((len(train), len(names)), dtype=bool)
    for row, stated in enumerate(train.facts):
        for name in stated:
            if name in place:
                found[row, place[name]] = True
    return found


def learned_facts(study: Study, seed_ids: Sequence[int], rank: int, most: int) -> AskedFacts:
    """The first `most` test examples, in the test subset's order, whose facts were learned.

    Learned: a training text states the fact, and at least half of the seeds' last checkpoints rank the answer at `rank` or
    better (Answers.rank). A fact that several test examples ask for is asked by the first. Raises UserError for a task that
    knows no facts, and if fewer than two were learned.
    """
    if study.train.facts is None or study.test.asked is None:
        raise UserError(
            f"task {study.task.name} asks for no facts; choose pararel, pararel_questions or webnlg_facts, or a task whose "
            "pools tell facts and what is asked"
        )
    candidates = _first_of_each(study.test.asked)
    states = stating_texts(study.train, [study.test.asked[place] for place in candidates])
    candidates, states = candidates[states.any(axis=0)], states[:, states.any(axis=0)]
    if not len(candidates):
        raise UserError(f"no training text of {study.experiment.name} states what its test texts ask for; draw more of either")
    asking = study.test[torch.from_numpy(candidates)]
    answers = as_answers(said_at_last(study, seed_ids, asking, measured_answers))
    learned = np.flatnonzero((answers.rank <= rank).mean(axis=0) >= 0.5)[:most]
    if len(learned) < 2:
        raise UserError(
            f"the members of {study.experiment.name} rank {len(learned)} of {len(candidates)} answers at --rank {rank} or "
            "better, fewer than 2; train longer or on more, or allow a larger rank"
        )
    chosen = candidates[learned]
    names = [str(study.test.asked[place]) for place in chosen]
    kept = Answers(answers.log_probability[:, learned], answers.rank[:, learned])
    return AskedFacts(chosen, names, states[:, learned], kept)


def _first_of_each(asked: np.ndarray) -> np.ndarray:
    first: dict[str, int] = {}
    for place, name in enumerate(asked):
        if name is not None:
            first.setdefault(name, place)
    return np.array(sorted(first.values()), dtype=np.int64)
