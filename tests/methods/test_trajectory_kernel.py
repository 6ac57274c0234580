"""Methods along the trajectory against the same methods at each checkpoint."""

from collections.abc import Sequence

import pytest
import torch
from tiny_model import margin_of_one, naive_gradients, score, stored, surprise_of_one, values

from tda.data.splits import Split
from tda.methods.registry import Attribution, load_method
from tda.system.errors import UserError
from tda.training.members import Member

EVERY_FAMILY = True
Tiny = tuple[Split, Split, list[Member]]


def of(name: str, tiny: Tiny, members: Sequence[Member], **settings) -> list[Attribution]:
    train, test, _ = tiny
    return list(load_method(name).score(list(members), train, test, load_method(name).settings | settings))


def test_trak_trajectory_is_the_mean_of_ridge_times_trak(tiny: Tiny):
    members = stored(tiny[2])
    (found,) = of("trak_trajectory", tiny, members[-1:], early_epochs="5,4")
    terms = of("trak", tiny, members)
    expected = sum(term.report["ridge"] * term.scores.double() for term in terms) / 3
    torch.testing.assert_close(found.scores, expected, rtol=1e-12, atol=0)
    assert found.report["epochs"] == [4, 5, 6]
    assert [one["ridge"] for one in found.report["terms"]] == [term.report["ridge"] for term in terms]
    assert all(one["largest_relative_residual"] < 1e-8 for one in found.report["terms"])
    assert "train_factor" not in found.report and "train_factor" not in found.report["terms"][0]


def test_trak_trajectory_is_a_mean_of_regressions_on_explicit_gradients(tiny: Tiny):
    train, test, members = tiny
    expected = torch.zeros(len(train), len(test), dtype=torch.float64)
    for member in stored(members)[1:]:
        left, right = (naive_gradients(member.model, split, margin_of_one) for split in (train, test))
        ridge = left.square().sum(dim=1).mean()
        inverse = torch.linalg.inv(torch.eye(left.shape[1], dtype=left.dtype) + left.T @ left / ridge)
        expected += values(member.model, train, surprise_of_one)[:, None] * (left @ inverse @ right.T) / 2
    (found,) = of("trak_trajectory", tiny, members[-1:], early_epochs="5")
    torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


def test_kernel_trajectory_is_the_mean_of_both_kernels(tiny: Tiny):
    members = stored(tiny[2])[1:]
    settings = {"ridge_factor": 2.0, "curvature_power": 0.25}
    (found,) = of("kernel_trajectory", tiny, members[-1:], early_epochs="5", **settings)
    expected = sum(term.scores.double() for term in of("trak_kernels", tiny, members, **settings)) / 2
    torch.testing.assert_close(found.scores, expected, rtol=1e-9, atol=0)


def test_if_trajectory_is_the_mean_influence_on_the_margin(tiny: Tiny):
    members, expected = stored(tiny[2])[1:], 0.0
    (found,) = of("if_trajectory", tiny, members[-1:], early_epochs="5", damping=0.1)
    for member, term in zip(members, of("if", tiny, members, damping=0.1), strict=True):
        expected = expected + term.scores.double() / values(member.model, tiny[1], surprise_of_one) / 2
    torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=0)


def test_only_earlier_epochs_count(tiny: Tiny):
    train, test, members = tiny
    _, early, late = stored(members)
    found = score("trak_trajectory", [early, late], train, test, early_epochs="4,5,6")
    assert torch.equal(found[0], score("trak_trajectory", [early], train, test, early_epochs="4")[0])
    assert torch.equal(found[1], score("trak_trajectory", [late], train, test, early_epochs="4,5")[0])
    assert not torch.equal(found[0], found[1])


@pytest.mark.families("cnn")
@pytest.mark.parametrize("method", ["trak_trajectory", "kernel_trajectory", "if_trajectory"])
def test_a_training_without_early_epochs_is_refused(tiny: Tiny, method: str):
    train, test, members = tiny
    late = stored(members)[-1:]
    with pytest.raises(UserError, match="no checkpoint of tiny_digits3_3pc before epoch 6 is named; train with --early_epochs"):
        score(method, late, train, test)
    with pytest.raises(UserError, match="ckpt_epoch_3.safetensors is missing; train the ensemble first"):
        score(method, late, train, test, early_epochs="3")
