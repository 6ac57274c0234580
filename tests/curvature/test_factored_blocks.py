"""Blocks of gradients that are passed over several times: what is kept, and that it changes nothing."""

import pytest
import torch
from torch import nn

from tda.curvature import factored_blocks
from tda.curvature.factored_blocks import FactoredBlocks, RotatedBlocks
from tda.curvature.kronecker_factors import factored_plan, factors_and_rotated
from tda.data.splits import Split
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import Classification


@pytest.fixture
def plan_and_split(monkeypatch):
    """A network's plan, and seven examples in blocks of two."""
    monkeypatch.setattr(factored_blocks, "examples_at_once", lambda *_: 2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs = torch.randn(7, 4, dtype=torch.float64)
    split = Split(inputs, torch.arange(7) % 3, torch.arange(7))
    return factored_plan(plan_gradients(model, inputs)), split


def sides(blocks) -> list[torch.Tensor]:
    """Every layer's output gradients and inputs of all examples."""
    found = [[layer if isinstance(layer, tuple) else tuple(layer.tensors()) for layer in block] for block in blocks]
    return [torch.cat(parts) for of_layer in zip(*found, strict=True) for parts in zip(*of_layer, strict=True)]


def test_what_is_kept_changes_nothing_and_is_not_computed_again(plan_and_split, monkeypatch):
    plan, split = plan_and_split
    loss, computed = Classification().loss, []
    one_block = sum(
        tensor.numel() * 8 for rows in next(iter(FactoredBlocks(plan, split[:2], loss))) for tensor in rows.tensors()
    )
    expected = sides(FactoredBlocks(plan, split, loss, 0))
    streamed = type(plan).streamed
    monkeypatch.setattr(
        type(plan), "streamed", lambda self, inputs, *rest: computed.append(len(inputs)) or streamed(self, inputs, *rest)
    )
    for kept_bytes, again in ((0, 7), (2 * one_block, 3), (100 * one_block, None)):
        blocks = FactoredBlocks(plan, split, loss, kept_bytes)
        computed.clear()
        for passed in (sides(blocks), sides(blocks)):
            assert all(torch.equal(left, right) for left, right in zip(passed, expected, strict=True))
        assert computed == [7] + ([again] if again else [])


def test_rotated_blocks_take_over_what_was_kept(plan_and_split):
    plan, split = plan_and_split
    loss, found = Classification().loss, []
    for kept_bytes in (0, 2**9, 2**20):
        blocks = FactoredBlocks(plan, split, loss, kept_bytes)
        factors, (rotated,) = factors_and_rotated([blocks])
        assert not list(blocks.handed_over())
        found.append(sides(rotated))
        fresh = RotatedBlocks(FactoredBlocks(plan, split, loss), factors)
        found.append(sides(fresh))
        part = sides(fresh.part(slice(2, 4)))
        assert all(torch.equal(of_part, whole[2:4]) for of_part, whole in zip(part, found[-1], strict=True))
    for other in found[1:]:
        assert all(torch.equal(left, right) for left, right in zip(other, found[0], strict=True))
