"""Datamodels and empirical influence against plain formulas, and what they may and may not read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Ensemble
from sklearn.linear_model import LassoCV, Ridge
from tiny_model import margin_of_one, plain_training, score, shuffled_batches, values

from tda.data.splits import Split
from tda.methods.registry import load_method
from tda.statistics.linear_datamodeling_score import lds, predictions
from tda.statistics.retraining_effect import mean_with_minus_without
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.members import Member
from tda.training.retrainings import RetrainingStore
from tda.training.study import Study
from tda.training.subset_draws import SubsetDraw, load_subset_outputs

EVERY_FAMILY = True
FITTING = SubsetDraw("fitting", 0.5, 60, 1)
Tiny = tuple[Split, Split, list[Member]]


def filled(study: Study, draw: SubsetDraw) -> RetrainingStore:
    """The store once it holds a draw's retrainings."""
    store = RetrainingStore(study)
    store.fill(draw.retrainings(len(study.train)), "test")
    return store


def masks_and_margins(study: Study, draw: SubsetDraw) -> tuple[np.ndarray, np.ndarray]:
    """Masks (S, n_train) and margins (S, n_test) of a draw of one seed."""
    found = load_subset_outputs(filled(study, draw), draw)
    return found.masks.numpy(), found.margins[0].numpy()


def test_scores_are_those_of_a_plain_retraining_loop(tiny: Tiny):
    train, test, members = tiny
    study, draw = members[0].study, SubsetDraw("fitting", 0.5, 4, 1)
    filled(study, draw)
    expected = []
    for retraining in draw.retrainings(len(train)):
        few = train[retraining.counted]
        batches = shuffled_batches(stream(retraining.seed, "batch order"), study.plan, len(few))
        model = plain_training(study.new_model(retraining.seed), study.plan, few, batches)[-1]
        expected.append(values(model, test, margin_of_one))
    inside = draw.masks(len(train))
    (found,) = score("empirical_influence", members[:1], train, test, num_subsets=4)
    margins, both = torch.stack(expected), 0
    for example in range(len(train)):
        with_it, without_it = margins[inside[:, example]], margins[~inside[:, example]]
        if len(with_it) and len(without_it):
            difference = with_it.mean(dim=0) - without_it.mean(dim=0)
            torch.testing.assert_close(found[example].double(), difference, rtol=1e-4, atol=1e-6)
            assert difference.abs().max() > 1e-3
            both += 1
        else:
            assert (found[example] == 0).all()
    assert both >= len(train) // 2


@pytest.mark.families("cnn")
def test_a_single_test_example_has_the_scores_that_it_has_among_others(tiny: Tiny):
    train, test, members = tiny
    filled(members[0].study, replace(FITTING, num_subsets=20))
    for penalty in ("ridge", "lasso"):
        among, alone = (
            score("datamodels", members[:1], train, split, num_subsets=20, penalty=penalty)[0] for split in (test[:2], test[:1])
        )
        torch.testing.assert_close(alone, among[:, :1])


@pytest.mark.families("cnn", "language")
def test_each_seed_is_fitted_to_its_own_block_of_subsets(tiny: Tiny):
    train, test, members = tiny
    masks, margins = masks_and_margins(members[0].study, FITTING)
    for seed_id in (0, 1, 2):
        of_seed = [replace(member, seed_id=seed_id) for member in members[:2]]
        first, second = score("empirical_influence", of_seed, train, test, num_subsets=20)
        block = slice(20 * seed_id, 20 * seed_id + 20)
        expected = mean_with_minus_without(masks[block], margins[block])
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(first, expected, rtol=1e-10)
        assert first is second or np.array_equal(first, second)


@pytest.mark.families("cnn", "language")
def test_datamodels_are_regressions_with_a_penalty_chosen_by_cross_validation(tiny: Tiny):
    train, test, members = tiny
    masks, margins = masks_and_margins(members[0].study, FITTING)
    (ridge,) = score("datamodels", members[:1], train, test, num_subsets=60)
    candidates = np.stack([Ridge(alpha).fit(masks, margins).coef_.T for alpha in np.logspace(0, 5, 11)])
    distance = np.abs(candidates - ridge.numpy()).max(axis=1).min(axis=0)
    assert (distance < 1e-8).all()
    (lasso,) = score("datamodels", members[:1], train, test, num_subsets=60, penalty="lasso")
    expected = LassoCV(cv=5, random_state=0, max_iter=10_000).fit(masks, margins[:, 3]).coef_
    np.testing.assert_allclose(lasso[:, 3], expected, rtol=1e-8, atol=1e-12)
    with pytest.raises(UserError, match="unknown penalty elastic"):
        score("datamodels", members[:1], train, test, num_subsets=60, penalty="elastic")


@pytest.mark.parametrize("method", ["datamodels", "empirical_influence"])
def test_columns_are_those_of_the_given_test_examples(tiny: Tiny, method: str):
    train, test, members = tiny
    filled(members[0].study, SubsetDraw("fitting", 0.5, 10, 1))
    (whole,) = score(method, members[:1], train, test, num_subsets=10)
    (some,) = score(method, members[:1], train, test[[7, 2]], num_subsets=10)
    assert whole.shape == (9, 12)
    torch.testing.assert_close(some, whole[:, [7, 2]], rtol=1e-9, atol=1e-12)
    for wrong in ((train, train), (test[:9], test), (train[:5], test), (replace(train, labels=train.labels.flip(0)), test)):
        with pytest.raises(UserError, match="know other (training|test) examples than these"):
            score(method, members[:1], *wrong, num_subsets=10)


@pytest.mark.families("cnn")
def test_the_retrainings_own_regression_predicts_other_subsets_best(ensemble: Ensemble):
    """Of datamodels, Grad-Dot, Grad-Cos and random scores."""
    study, draw = ensemble.study, SubsetDraw("evaluation", 0.5, 20, 2)
    filled(study, FITTING)
    judge = load_subset_outputs(filled(study, draw), draw)
    masks, margins = judge.masks.numpy(), judge.margins.mean(dim=0).numpy()
    members, test = ensemble.members(15), study.inputs(study.test)
    found = {"random": np.random.default_rng(1).normal(size=(6, 150))}
    for method in ("datamodels", "grad_dot", "grad_cos"):
        settings = {"num_subsets": 60} if method == "datamodels" else {}
        found[method] = score(method, members, ensemble.train, test, **settings)[0].numpy()
    ranking = {name: lds([predictions(masks, scores)], margins, draws=2).value for name, scores in found.items()}
    assert max(ranking, key=ranking.get) == "datamodels" and ranking["datamodels"] > 0.5
    assert min(ranking, key=ranking.get) == "random"


@pytest.mark.families("cnn")
def test_missing_retrainings_are_named_with_their_command(ensemble: Ensemble):
    assert load_method("datamodels").settings["num_subsets"] == 100
    with pytest.raises(UserError, match="run_subset_retraining.py --model cnn --task digits3 .*--purpose fitting"):
        score("datamodels", ensemble.members(15), ensemble.train, ensemble.test)
