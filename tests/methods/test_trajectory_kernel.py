"""Methods along the trajectory against the same methods at each checkpoint."""

import pytest
import torch
from conftest import Ensemble
from tiny_model import score

from tda.gradients.quantities import margin
from tda.methods.registry import Attribution, load_method
from tda.system.errors import UserError


def of(name: str, ensemble: Ensemble, *members, **settings) -> list[Attribution]:
    return list(load_method(name).score(list(members), ensemble.train, ensemble.test, load_method(name).settings | settings))


def test_trak_trajectory_is_the_mean_of_ridge_times_trak(ensemble: Ensemble):
    members = ensemble.members(11, 13, 15)
    (found,) = of("trak_trajectory", ensemble, members[-1], early_epochs="13,11")
    terms = of("trak", ensemble, *members)
    expected = sum(term.report["ridge"] * term.scores.double() for term in terms) / 3
    torch.testing.assert_close(found.scores, expected, rtol=1e-12, atol=0)
    assert found.report["epochs"] == [11, 13, 15]
    assert [one["ridge"] for one in found.report["terms"]] == [term.report["ridge"] for term in terms]
    assert all(one["largest_relative_residual"] < 1e-8 for one in found.report["terms"])
    assert "train_factor" not in found.report and "train_factor" not in found.report["terms"][0]


def test_kernel_trajectory_is_the_mean_of_both_kernels(ensemble: Ensemble):
    members = ensemble.members(13, 15)
    settings = {"ridge_factor": 2.0, "curvature_power": 0.25}
    (found,) = of("kernel_trajectory", ensemble, members[-1], early_epochs="13", **settings)
    expected = sum(term.scores.double() for term in of("trak_kernels", ensemble, *members, **settings)) / 2
    torch.testing.assert_close(found.scores, expected, rtol=1e-9, atol=0)


def test_if_trajectory_is_the_mean_influence_on_the_margin(ensemble: Ensemble):
    members = ensemble.members(13, 15)
    (found,) = of("if_trajectory", ensemble, members[-1], early_epochs="13", damping=0.1)
    expected = 0.0
    for member, term in zip(members, of("if", ensemble, *members, damping=0.1), strict=True):
        with torch.no_grad():
            slopes = torch.sigmoid(-margin(member.model(ensemble.test.inputs), ensemble.test.labels).double())
        expected = expected + term.scores.double() / slopes / 2
    torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=0)


def test_only_earlier_epochs_count(ensemble: Ensemble):
    early, late = ensemble.members(13, 15)
    found = score("trak_trajectory", [early, late], ensemble.train, ensemble.test, early_epochs="11,14,15")
    assert torch.equal(found[0], score("trak_trajectory", [early], ensemble.train, ensemble.test, early_epochs="11")[0])
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("method", ["trak_trajectory", "kernel_trajectory", "if_trajectory"])
def test_a_training_without_early_epochs_is_refused(ensemble: Ensemble, method: str):
    with pytest.raises(UserError, match="no checkpoint of cnn_digits3_2pc before epoch 15 is named; train with --early_epochs"):
        score(method, ensemble.members(15), ensemble.train, ensemble.test)
    with pytest.raises(UserError, match="ckpt_epoch_3.safetensors is missing; train the ensemble first"):
        score(method, ensemble.members(15), ensemble.train, ensemble.test, early_epochs="3")
