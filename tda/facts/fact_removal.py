"""Which training texts make a model give an answer: leave some out, train again, and see how far the answer falls.

A training without a fact's texts answers for that fact alone, so that each fact would need trainings of its own. Here the texts
of several facts may be left out together, where no text is left out for two of them; what that does to the facts whose texts
stayed is told beside it, and trainings of a single fact each say whether it changes the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tda.facts.answers import Answers, as_answers, measured_answers
from tda.facts.asked_facts import AskedFacts
from tda.statistics.intervals import Estimate, over_examples_and_seeds
from tda.system.random_streams import stream
from tda.training.retrained_logits import LogitStore
from tda.training.study import Study


@dataclass(frozen=True)
class Removal:
    """The texts that are left out for each of some facts.

    facts: numbers (G,) of the asked facts, ascending; texts: for each its positions in the training split, all as many.
    """

    facts: Sequence[int]
    texts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Falls:
    """How far answers fall where texts are left out.

    log_probability: (G, S) nats, of each fact under each seed, positive where the answer became less probable; reciprocal_rank:
    likewise, the fall of 1 / rank; said_before, said_after: (G, S) whether greedy decoding gave the answer. of_others: (G, S)
    the mean fall of the log-probability of asked facts of which no text was left out in the same training; NaN where there are
    none. groups: how many trainings a seed; together: texts left out of each, on average.
    """

    facts: Sequence[int]
    log_probability: np.ndarray
    reciprocal_rank: np.ndarray
    said_before: np.ndarray
    said_after: np.ndarray
    of_others: np.ndarray
    groups: int
    together: float


def random_texts(num_train: int, num_facts: int, count: int) -> list[list[int]]:
    """Random texts for each fact, `count` of all."""
    orders = (torch.randperm(num_train, generator=stream(fact, "random texts of a fact")) for fact in range(num_facts))
    return [order[:count].tolist() for order in orders]


def oracle_texts(states: np.ndarray, count: int) -> list[list[int]]:
    """Texts that state each fact, of states (n_train, F), at most `count`, in random order; filled up to `count` at random."""
    found = []
    for fact, order in enumerate(random_texts(len(states), states.shape[1], len(states))):
        stating = [text for text in order if states[text, fact]]
        found.append((stating + [text for text in order if not states[text, fact]])[:count])
    return found


def highest_texts(scores: np.ndarray, count: int) -> list[list[int]]:
    """The texts with the largest scores for each fact, of scores (n_train, F)."""
    return np.argsort(-scores, axis=0, kind="stable")[:count].T.tolist()


def disjoint_groups(texts: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Numbers of facts in groups of at most `most`, so that no two facts of a group leave out the same text.

    Each fact joins the first group that has room and shares no text with it.
    """
    groups: list[list[int]] = []
    taken: list[set[int]] = []
    for number, own in enumerate(texts):
        for group, held in zip(groups, taken, strict=True):
            if len(group) < most and not held & set(own):
                group.append(number)
                held |= set(own)
                break
        else:
            groups.append([number])
            taken.append(set(own))
    return groups


@dataclass(frozen=True)
class Retrained:
    """Trainings of a study on a part of its texts, and what they answer to the asked facts, with each of the seeds."""

    study: Study
    asked: AskedFacts
    seeds: Sequence[int]
    force: bool

    def answers_without(self, removed: Sequence[Sequence[int]]) -> Answers:
        """Answers (R, S, F) of trainings without each of R sets of texts, by each seed; those that are missing are done."""
        asking = self.study.test[torch.from_numpy(self.asked.positions)]
        store = LogitStore(self.study, asking, "answers", measured_answers)
        return as_answers(store.said_without(removed, self.seeds, "run_fact_tracing.py again", self.force))

    def falls(self, removal: Removal, most: int, base: Answers) -> Falls:
        """What a removal does; most: facts whose texts are left out together; base: answers (1, S, F) of all texts."""
        groups = disjoint_groups(removal.texts, most)
        unions = [sorted({text for number in group for text in removal.texts[number]}) for group in groups]
        after = self.answers_without(unions)
        fell = base.log_probability - after.log_probability
        ranks = 1 / base.rank - 1 / after.rank
        place = {number: row for row, group in enumerate(groups) for number in group}
        facts = np.array(removal.facts, dtype=np.int64)
        rows = np.array([place[number] for number in range(len(facts))])
        return Falls(
            removal.facts,
            fell[rows, :, facts],
            ranks[rows, :, facts],
            base.rank[0][:, facts].T == 1,
            after.rank[rows, :, facts] == 1,
            np.stack([self._of_others(fell[row], facts[groups[row]]) for row in rows]),
            len(groups),
            float(np.mean([len(union) for union in unions])),
        )

    def _of_others(self, fell: np.ndarray, group: np.ndarray) -> np.ndarray:
        others = np.setdiff1d(np.arange(len(self.asked)), group)
        return fell[:, others].mean(axis=1) if len(others) else np.full(len(fell), np.nan)


def difference(falls: Falls, others: Falls) -> Estimate:
    """How much further the answers fall than by another removal, over the facts of both, with the interval of the pairs."""
    shared = sorted(set(falls.facts) & set(others.facts))
    left, right = ([list(each.facts).index(fact) for fact in shared] for each in (falls, others))
    if not shared:
        return Estimate(np.nan, np.nan, np.nan)
    return over_examples_and_seeds(falls.log_probability[left] - others.log_probability[right])
