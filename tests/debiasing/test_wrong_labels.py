"""Flipped labels, and self-influence as the diagonal of a method's scores."""

from dataclasses import replace

import pytest
import torch
from tiny_model import naive_gradients

from tda.data.splits import Split
from tda.debiasing.wrong_labels import flip_labels, self_influence
from tda.methods.registry import load_method
from tda.system.errors import UserError


def test_a_share_of_the_labels_is_another_class(tiny):
    _, test, _ = tiny
    split, flipped = flip_labels(test, 1 / 3, 3)
    assert flipped.sum() == 4 and torch.equal(split.labels != test.labels, flipped)
    assert ((split.labels >= 0) & (split.labels < 3)).all() and torch.equal(split.inputs, test.inputs)
    assert torch.equal(flip_labels(test, 1 / 3, 3)[0].labels, split.labels)
    with pytest.raises(UserError, match="--share 0.01 flips none"):
        flip_labels(test, 0.01, 3)


def test_every_other_class_is_drawn():
    split = Split(torch.zeros(900, 1), torch.zeros(900, dtype=torch.int64), torch.arange(900))
    found, flipped = flip_labels(split, 0.5, 4)
    counts = torch.bincount(found.labels[flipped], minlength=4)
    # 450 draws of probability 1/3: the standard deviation of a count is 10.
    assert counts[0] == 0 and ((counts[1:] - 150).abs() < 40).all()


def test_labels_of_tokens_are_refused(tiny):
    _, test, _ = tiny
    tokens = replace(test, labels=test.labels[:, None].expand(-1, 2))
    with pytest.raises(UserError, match="are tokens"):
        flip_labels(tokens, 0.5, 3)


def test_self_influence_of_grad_dot_is_the_squared_length_of_a_gradient(tiny):
    train, _, members = tiny
    found = self_influence(load_method("grad_dot"), members[-1], train)
    torch.testing.assert_close(found, naive_gradients(members[-1].model, train).square().sum(1), rtol=1e-6, atol=1e-12)
