"""Datamodels and empirical influence against plain formulas, and what they may and may not read."""

import numpy as np
import pytest
from conftest import EXPERIMENT, Ensemble
from sklearn.linear_model import LassoCV, Ridge
from tiny_model import score

from tda.methods.registry import load_method
from tda.statistics.linear_datamodeling_score import lds, predictions
from tda.statistics.retraining_effect import mean_with_minus_without
from tda.system.errors import UserError
from tda.training.retrainings import RetrainingStore
from tda.training.study import open_study
from tda.training.subset_draws import SubsetDraw, load_subset_outputs

RANDOM = np.random.default_rng(1)
MASKS = RANDOM.random((80, 12)) < 0.5
OUTPUTS = MASKS @ RANDOM.normal(size=(12, 5)) + 0.1 * RANDOM.normal(size=(80, 5))


def test_empirical_influence_is_a_difference_of_means():
    found = mean_with_minus_without(MASKS, OUTPUTS)
    for example in range(12):
        inside = MASKS[:, example]
        np.testing.assert_allclose(found[example], OUTPUTS[inside].mean(0) - OUTPUTS[~inside].mean(0), rtol=1e-10)


def test_an_example_that_never_or_always_counts_has_none():
    masks = MASKS.copy()
    masks[:, 0], masks[:, 1] = True, False
    assert (mean_with_minus_without(masks, OUTPUTS)[:2] == 0).all()


@pytest.fixture
def retrained(ensemble: Ensemble) -> Ensemble:
    """60 fitting subsets of the tiny ensemble, retrained."""
    draw = SubsetDraw("fitting", 0.5, 60, 1)
    RetrainingStore(open_study(EXPERIMENT, "cpu")).fill(draw.retrainings(6), "test")
    return ensemble


def test_each_seed_is_fitted_to_its_own_block_of_subsets(retrained: Ensemble):
    found = load_subset_outputs(RetrainingStore(open_study(EXPERIMENT, "cpu")), SubsetDraw("fitting", 0.5, 60, 1))
    for seed_id in (0, 1, 2):
        members = retrained.members(14, 15, seed_id=seed_id)
        first, second = score("empirical_influence", members, retrained.train, retrained.test, num_subsets=20)
        block = slice(20 * seed_id, 20 * seed_id + 20)
        expected = mean_with_minus_without(found.masks[block].numpy(), found.margins[0, block].numpy())
        np.testing.assert_allclose(first, expected, rtol=1e-10)
        assert first is second or np.array_equal(first, second)


def test_datamodels_are_regressions_with_a_penalty_chosen_by_cross_validation(retrained: Ensemble):
    found = load_subset_outputs(RetrainingStore(open_study(EXPERIMENT, "cpu")), SubsetDraw("fitting", 0.5, 60, 1))
    masks, margins = found.masks.numpy(), found.margins[0].numpy()
    members = retrained.members(15)
    (ridge,) = score("datamodels", members, retrained.train, retrained.test, num_subsets=60)
    candidates = np.stack([Ridge(alpha).fit(masks, margins).coef_.T for alpha in np.logspace(0, 5, 11)])
    distance = np.abs(candidates - ridge.numpy()).max(axis=1).min(axis=0)
    assert (distance < 1e-8).all()
    (lasso,) = score("datamodels", members, retrained.train, retrained.test, num_subsets=60, penalty="lasso")
    expected = LassoCV(cv=5, random_state=0, max_iter=10_000).fit(masks, margins[:, 3]).coef_
    np.testing.assert_allclose(lasso[:, 3], expected, rtol=1e-8, atol=1e-12)
    with pytest.raises(UserError, match="unknown penalty elastic"):
        score("datamodels", members, retrained.train, retrained.test, num_subsets=60, penalty="elastic")


def test_the_retrainings_own_regression_predicts_other_subsets_best(retrained: Ensemble):
    """Of datamodels, Grad-Dot, Grad-Cos and random scores."""
    store, draw = RetrainingStore(open_study(EXPERIMENT, "cpu")), SubsetDraw("evaluation", 0.5, 20, 2)
    store.fill(draw.retrainings(6), "test")
    judge = load_subset_outputs(store, draw)
    masks, margins = judge.masks.numpy(), judge.margins.mean(dim=0).numpy()
    members, test = retrained.members(15), store.test
    found = {"random": RANDOM.normal(size=(6, 150))}
    for method in ("datamodels", "grad_dot", "grad_cos"):
        settings = {"num_subsets": 60} if method == "datamodels" else {}
        found[method] = score(method, members, store.train, test, **settings)[0].numpy()
    ranking = {name: lds([predictions(masks, values)], margins, draws=2).mean for name, values in found.items()}
    assert max(ranking, key=ranking.get) == "datamodels" and ranking["datamodels"] > 0.5
    assert min(ranking, key=ranking.get) == "random"


def test_missing_retrainings_are_named_with_their_command(ensemble: Ensemble):
    assert load_method("datamodels").settings["num_subsets"] == 100
    with pytest.raises(UserError, match="run_subset_retraining.py --model cnn --task digits3 .*--purpose fitting"):
        score("datamodels", ensemble.members(15), ensemble.train, ensemble.test)
