"""Grad-Dot and Grad-Cos against float64 autograd of every pair."""

import copy
from dataclasses import replace

import torch
from conftest import Ensemble
from tiny_model import naive_gradients, score

from tda.gradients import gradient_kernel
from tda.methods.gradient_similarity import loss_kernel
from tda.models.model_state import trained_parameters

EVERY_FAMILY = True


def test_float32_scores_match_float64_autograd_of_every_pair(ensemble: Ensemble):
    members = ensemble.members(11, 15)
    dots, cosines = (score(name, members, ensemble.train, ensemble.test) for name in ("grad_dot", "grad_cos"))
    for member, dot, cosine in zip(members, dots, cosines, strict=True):
        model = copy.deepcopy(member.model).double()
        train, test = naive_gradients(model, ensemble.train), naive_gradients(model, ensemble.test)
        expected, norms = train @ test.T, train.norm(dim=1)[:, None] * test.norm(dim=1)
        # Relative to the size of the two gradients: nearly orthogonal ones cancel.
        assert ((dot.double() - expected).abs() / norms).max() < 1e-4
        assert (cosine.double() - expected / norms).abs().max() < 1e-4
        assert expected.abs().max() > 0 and dot.dtype == torch.float32


def test_float64_model_gives_float64_exactness(tiny):
    train, test, members = tiny
    model = members[0].model
    kernel = loss_kernel(members[0], train, test)
    left, right = naive_gradients(model, train), naive_gradients(model, test)
    torch.testing.assert_close(kernel.cross, left @ right.T, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(kernel.left_norms, left.norm(dim=1), rtol=1e-10, atol=0)


def test_example_is_most_like_itself(ensemble: Ensemble):
    (cosine,) = score("grad_cos", ensemble.members(13), ensemble.train, ensemble.train)
    torch.testing.assert_close(cosine.diagonal(), torch.ones(6), rtol=1e-5, atol=0)
    torch.testing.assert_close(cosine, cosine.T, rtol=1e-4, atol=1e-5)
    assert cosine.abs().max() <= 1


def test_gradient_that_is_exactly_zero_scores_zero(tiny):
    """A logit so large that its probability is 1 in float64 leaves no gradient."""
    train, test, members = tiny
    member = members[0]
    bias = list(trained_parameters(member.model).values())[-1]
    if bias.dim() > 1:
        # Language models have no bias there; the last layer of adapters' base is frozen.
        network = getattr(member.model, "network", member.model)
        head = torch.nn.Linear(*reversed(network.lm_head.weight.shape)).double()
        network.lm_head = head.requires_grad_(network is member.model)
        bias = head.bias
    with torch.no_grad():
        bias.copy_(torch.zeros_like(bias).index_fill(0, torch.tensor(0), 1e4))
    # The first example's counted tokens become the one that the model is sure of; labels below 0 do not count.
    train = replace(train, labels=torch.cat([train.labels[:1].clamp(max=0), train.labels[1:]]))
    (cosine,) = score("grad_cos", [member], train, test)
    sure, test_sure = ((split.labels <= 0).reshape(len(split), -1).all(dim=1) for split in (train, test))
    pairs = sure[:, None] | test_sure
    assert sure[0] and not sure.all() and (cosine[pairs] == 0).all() and torch.isfinite(cosine).all()


def test_block_size_does_not_matter(ensemble: Ensemble, monkeypatch):
    (whole,) = score("grad_dot", ensemble.members(15), ensemble.train, ensemble.test)
    monkeypatch.setattr(gradient_kernel, "BLOCK_SIZE", 4)
    (blocks,) = score("grad_dot", ensemble.members(15), ensemble.train, ensemble.test)
    torch.testing.assert_close(whole, blocks, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_permuting_test_examples_permutes_columns(ensemble: Ensemble):
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    for name in ("grad_dot", "grad_cos"):
        (first,), (second,) = (
            score(name, ensemble.members(15), ensemble.train, split) for split in (ensemble.test, ensemble.test[order])
        )
        torch.testing.assert_close(first[:, order], second, rtol=1e-4, atol=1e-5 * float(first.abs().max()))
