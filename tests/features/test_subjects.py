"""What feature attribution looks at: an ensemble's models and pictures, and the scores that choose among them."""

import shutil

import numpy as np
import pytest
import torch
from conftest import Ensemble, run_here

from tda.features.subjects import Subject, ensemble_subject, gradient_scores, last_members, predictions, scores_on_disk
from tda.methods.registry import load_method
from tda.system.errors import UserError


def subject_of(ensemble: Ensemble, num_checkpoints: int, num_seeds: int | None) -> Subject:
    return ensemble_subject(last_members(ensemble.study, num_checkpoints, ensemble.study.seed_ids(None, num_seeds)))


@pytest.mark.parametrize("ensemble", ["vit"], indirect=True)
def test_a_vision_transformer_is_explained_by_pixels(ensemble: Ensemble):
    subject = subject_of(ensemble, 1, 1)
    model = subject.seeds[0][0]()
    # The members' own inputs are embedded tokens.
    assert ensemble.train.inputs.dim() == 3
    torch.testing.assert_close(model(subject.train.inputs), model(ensemble.train.inputs))
    found = subject.train.inputs * torch.tensor(subject.std).view(-1, 1, 1) + torch.tensor(subject.mean).view(-1, 1, 1)
    torch.testing.assert_close(found, ensemble.study.train.inputs, atol=1e-6, rtol=0)


def test_a_number_of_seeds_below_one_is_refused(ensemble: Ensemble):
    with pytest.raises(UserError, match="--num_seeds 0 is out of range"):
        subject_of(ensemble, 1, 0)


def test_gradient_scores_are_those_of_the_registered_method(ensemble: Ensemble):
    subject = subject_of(ensemble, 2, 1)
    members = ensemble.members(14, 15)
    for name, cosine in (("grad_cos", True), ("grad_dot", False)):
        each = [found.scores.double() for found in load_method(name).score(members, subject.train, subject.test, {})]
        np.testing.assert_allclose(gradient_scores(subject, cosine)[0], sum(each) / 2, rtol=1e-5)


def test_scores_must_be_there(ensemble: Ensemble):
    with pytest.raises(UserError, match="run the scoring script of loo, or use --chosen_by gradients"):
        scores_on_disk(subject_of(ensemble, 1, None), "loo", 1)


def test_scores_on_disk_are_the_same_seeds_averaged_over_the_last_checkpoints(ensemble: Ensemble):
    run_here("run_tda.py", num_per_class=2, methods={"grad_dot": {}}, device="cpu")
    subject = subject_of(ensemble, 2, None)
    found = scores_on_disk(subject, "grad_dot", 2)
    for seed_id in range(3):
        members = ensemble.members(14, 15, seed_id=seed_id)
        each = [scores.scores.double() for scores in load_method("grad_dot").score(members, subject.train, subject.test, {})]
        np.testing.assert_allclose(found[seed_id], sum(each) / 2, rtol=1e-3, atol=1e-4 * np.abs(found).max())
    one = ensemble_subject(last_members(ensemble.study, 2, [1]))
    np.testing.assert_array_equal(scores_on_disk(one, "grad_dot", 2), found[1:2])
    fewer = ensemble_subject(last_members(ensemble.study, 1, ensemble.study.seed_ids()), ensemble.study.test[:4])
    with pytest.raises(UserError, match="of other examples than the index files name"):
        scores_on_disk(fewer, "grad_dot", 1)
    shutil.rmtree(ensemble.study.results.score_file("grad_dot", 2, 15).parent)
    np.testing.assert_array_equal(scores_on_disk(subject_of(ensemble, 2, 2), "grad_dot", 2), found[:2])


def test_predictions_are_the_last_checkpoints(ensemble: Ensemble):
    found = predictions(subject_of(ensemble, 2, None))
    assert found.shape == (3, 150)
    for seed_id in range(3):
        (last,) = ensemble.members(15, seed_id=seed_id)
        with torch.no_grad():
            np.testing.assert_array_equal(found[seed_id], last.model(ensemble.study.test.inputs).argmax(1))


@pytest.mark.parametrize("tiny", ["text", "language"], indirect=True)
def test_texts_have_no_pixels_to_attribute_to(tiny):
    *_, members = tiny
    with pytest.raises(UserError, match="the examples of tiny_.* are no images"):
        ensemble_subject([members])
