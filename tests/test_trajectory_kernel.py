"""TRAK along the trajectory against TRAK at each checkpoint."""

import pytest
import torch
from conftest import Ensemble
from tiny_model import score

from tda.errors import UserError
from tda.methods import METHODS


def test_is_the_mean_of_ridge_times_trak(ensemble: Ensemble):
    members = ensemble.members(11, 13, 15)
    settings = {"early_epochs": "13,11"}
    (found,) = METHODS["trak_trajectory"].score([members[-1]], ensemble.train, ensemble.test, settings)
    terms = [next(METHODS["trak"].score([member], ensemble.train, ensemble.test, {"ridge": None})) for member in members]
    expected = sum(term.report["ridge"] * term.scores.double() for term in terms) / 3
    torch.testing.assert_close(found.scores, expected, rtol=1e-12, atol=0)
    assert found.report["epochs"] == [11, 13, 15] and found.report["ridges"] == [term.report["ridge"] for term in terms]
    assert found.report["largest_relative_residual"] < 1e-8


def test_only_earlier_epochs_count(ensemble: Ensemble):
    early, late = ensemble.members(13, 15)
    found = score("trak_trajectory", [early, late], ensemble.train, ensemble.test, early_epochs="11,14,15")
    assert torch.equal(found[0], score("trak_trajectory", [early], ensemble.train, ensemble.test, early_epochs="11")[0])
    assert not torch.equal(found[0], found[1])


def test_a_training_without_early_epochs_is_refused(ensemble: Ensemble):
    with pytest.raises(UserError, match="no checkpoint of cnn_digits3_2pc before epoch 15 is named; train with --early_epochs"):
        score("trak_trajectory", ensemble.members(15), ensemble.train, ensemble.test)
    with pytest.raises(UserError, match="ckpt_epoch_3.safetensors is missing; train the ensemble first"):
        score("trak_trajectory", ensemble.members(15), ensemble.train, ensemble.test, early_epochs="3")
