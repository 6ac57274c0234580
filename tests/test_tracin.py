"""TracInCP and GAS against float64 autograd of every pair, summed over checkpoints."""

import pytest
import torch
from conftest import Ensemble
from tiny_model import naive_gradients, score

from tda import gradient_kernel
from tda.subsets import Split


@pytest.mark.parametrize("normalised", [False, True])
def test_mean_over_the_checkpoints_is_the_sum_weighted_by_learning_rate(tiny, normalised: bool):
    train, test, members = tiny
    expected = torch.zeros(len(train), len(test), dtype=torch.float64)
    for member in members:
        left, right = naive_gradients(member.model, train), naive_gradients(member.model, test)
        if normalised:
            left, right = left / left.norm(dim=1, keepdim=True), right / right.norm(dim=1, keepdim=True)
        expected += 1e-2 * left @ right.T
    found = torch.stack(score("gas" if normalised else "tracin", members, train, test)).mean(dim=0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["tracin", "gas"])
def test_block_size_and_order_do_not_matter(ensemble: Ensemble, monkeypatch, method: str):
    (whole,) = score(method, ensemble.members(15), ensemble.train, ensemble.test)
    monkeypatch.setattr(gradient_kernel, "BLOCK_SIZE", 4)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    test = ensemble.test
    permuted = Split(test.images[order], test.labels[order], test.indices[order])
    (blocks,) = score(method, ensemble.members(15), ensemble.train, permuted)
    torch.testing.assert_close(whole[:, order], blocks, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
