"""TracInCP and GAS against float64 autograd of every pair, summed over checkpoints."""

import pytest
import torch
from conftest import Ensemble
from tiny_model import naive_gradients, score

from tda.gradients import gradient_kernel

EVERY_FAMILY = True


@pytest.mark.parametrize("normalised", [False, True])
def test_mean_over_the_checkpoints_is_the_sum_weighted_by_learning_rate(tiny, normalised: bool):
    train, test, members = tiny
    expected = torch.zeros(len(train), len(test), dtype=torch.float64)
    # Three steps an epoch and 18 in all; a decaying rate is 1 - 10 / 18 of the full one in the middle of the fourth epoch.
    decaying = [1e-2 * (18 - middle) / 18 for middle in (10, 13, 16)]
    rates = decaying if members[0].plan.linear_decay else [1e-2] * 3
    for member, rate in zip(members, rates, strict=True):
        left, right = naive_gradients(member.model, train), naive_gradients(member.model, test)
        if normalised:
            left, right = left / left.norm(dim=1, keepdim=True), right / right.norm(dim=1, keepdim=True)
        expected += rate * left @ right.T
    found = torch.stack(score("gas" if normalised else "tracin", members, train, test)).mean(dim=0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["tracin", "gas"])
def test_block_size_and_order_do_not_matter(ensemble: Ensemble, monkeypatch, method: str):
    (whole,) = score(method, ensemble.members(15), ensemble.train, ensemble.test)
    monkeypatch.setattr(gradient_kernel, "BLOCK_SIZE", 4)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    (blocks,) = score(method, ensemble.members(15), ensemble.train, ensemble.test[order])
    torch.testing.assert_close(whole[:, order], blocks, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
