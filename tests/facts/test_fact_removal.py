"""Leaving texts out: which, in which groups, and that falls are what trainings by hand give."""

from pathlib import Path

import numpy as np
import pytest
import tiny_facts
import torch

from tda.facts.answers import as_answers, measured_answers
from tda.facts.asked_facts import learned_facts, stating_texts
from tda.facts.fact_removal import (
    Removal,
    Retrained,
    difference,
    disjoint_groups,
    highest_texts,
    oracle_texts,
    random_texts,
)
from tda.models.model_state import read_state, write_state
from tda.statistics.intervals import bootstrap_mean, over_examples_and_seeds
from tda.system.errors import UserError
from tda.training.ensembles import train_ensemble
from tda.training.many_models import train_many
from tda.training.runs import Run
from tda.training.study import Study, open_study


@pytest.fixture
def study(root: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    tiny_facts.prepare(root, monkeypatch)
    return open_study(tiny_facts.EXPERIMENT, "cpu")


def test_groups_share_no_text_and_hold_no_more_facts_than_allowed():
    texts = [[0, 1], [2, 3], [1, 4], [5, 6], [3, 0], [7, 8]]
    groups = disjoint_groups(texts, 2)
    assert groups == [[0, 1], [2, 3], [4, 5]]
    for group in groups:
        assert len({text for number in group for text in texts[number]}) == 2 * len(group)
    assert disjoint_groups(texts, 1) == [[number] for number in range(6)]
    assert disjoint_groups([[1, 2]] * 3, 5) == [[0], [1], [2]]


def test_random_and_stating_texts():
    states = np.zeros((20, 3), dtype=bool)
    states[[3, 5], 0] = states[[1, 2, 4, 6], 1] = True
    drawn = random_texts(20, 3, 4)
    assert drawn == random_texts(20, 3, 4) and all(len(set(texts)) == 4 for texts in drawn) and drawn[0] != drawn[1]
    oracle = oracle_texts(states, 3)
    assert all(len(set(texts)) == 3 for texts in oracle)
    assert set(oracle[0][:2]) == {3, 5} and set(oracle[1]) < {1, 2, 4, 6}
    assert highest_texts(np.array([[1.0, 5.0], [3.0, 4.0], [2.0, 6.0]]), 2) == [[1, 2], [2, 0]]


def test_asked_facts_are_stated_and_learned(study: Study):
    train_ensemble(study, [0, 1, 2], force=False)
    every = learned_facts(study, [0, 1, 2], 400, 100)
    assert len(every) == 12 and sorted(every.names) == sorted(study.test.asked.tolist())
    assert (every.states == stating_texts(study.train, every.names)).all() and (every.states.sum(axis=0) == 2).all()
    learned = learned_facts(study, [0, 1, 2], 2, 100)
    known = (every.answers.rank <= 2).mean(axis=0) >= 0.5
    assert learned.positions.tolist() == every.positions[known].tolist()
    assert learned_facts(study, [0, 1, 2], 400, 3).positions.tolist() == every.positions[:3].tolist()
    study.test.asked[:] = None
    with pytest.raises(UserError, match="no training text of gpt_few_facts_24pc states"):
        learned_facts(study, [0, 1, 2], 400, 3)


def by_hand(study: Study, removed: set[int], seed: int, positions: np.ndarray):
    """Answers of a training on what is left."""
    kept = torch.tensor([text for text in range(24) if text not in removed])
    batches = [kept[batch] for batch in study.plan.batches(seed, len(kept))]
    run = Run(read_state(study.new_model(seed)), batches, [len(batches)], seed=seed)
    ((_, (last,)),) = train_many(study.new_model(), study.plan, study.task.objective, [run], study.train, keep_states=True)
    model = study.new_model()
    write_state(last.state, model)
    return as_answers(measured_answers(model.eval(), study.test[torch.from_numpy(positions)]))


def test_falls_are_those_of_trainings_by_hand(study: Study, monkeypatch: pytest.MonkeyPatch):
    train_ensemble(study, [0], force=False)
    asked = learned_facts(study, [0], 400, 4)
    seeds = (5, 6)
    retrained = Retrained(study, asked, seeds, force=False)
    removal = Removal([0, 1, 3], [[0, 1], [2, 3], [1, 7]])
    base = retrained.answers_without([[]])
    falls = retrained.falls(removal, 2, base)
    assert falls.groups == 2 and falls.together == 3.0
    for group in (({0, 1, 2, 3}, (0, 1)), ({1, 7}, (3,))):
        for place, seed in enumerate(seeds):
            before, after = by_hand(study, set(), seed, asked.positions), by_hand(study, group[0], seed, asked.positions)
            fell = before.log_probability - after.log_probability
            for fact in group[1]:
                row = removal.facts.index(fact)
                assert falls.log_probability[row, place] == pytest.approx(fell[fact], abs=1e-5)
                assert falls.reciprocal_rank[row, place] == pytest.approx(1 / before.rank[fact] - 1 / after.rank[fact])
                others = [other for other in range(4) if other not in group[1]]
                assert falls.of_others[row, place] == pytest.approx(fell[others].mean(), abs=1e-5)
                assert falls.said_after[row, place] == (after.rank[fact] == 1)
    monkeypatch.setattr("tda.training.retrained_logits.train_many", None)
    again = retrained.falls(removal, 2, base)
    np.testing.assert_array_equal(again.log_probability, falls.log_probability)
    fewer = retrained.falls(Removal([3], [[1, 7]]), 1, base)
    found = difference(falls, fewer)
    assert found.value == 0.0 and np.isnan(found.low)
    one_seed, few = (over_examples_and_seeds(np.arange(count)[:, None]) for count in (11.0, 5.0))
    assert (one_seed.value, one_seed.low) == (5.0, bootstrap_mean(np.arange(11.0)).low)
    assert few.value == 2.0 and np.isnan(few.low)
