"""The published recursion against a plain loop with explicit Hessians."""

import pytest
import torch
from conftest import SEEDS, Ensemble, for_some
from tiny_model import explicit_hessian, flat_parameters, naive_gradients, score

from tda.data.splits import Split
from tda.methods.lissa import lissa_operators
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.members import Member

EVERY_FAMILY = True


def plain_scores(member: Member, train: Split, test: Split, damping: float, scale: float, batch_size: int) -> torch.Tensor:
    """g_train^T s_test, s_test by s = v + (1 - damping) s - H s / scale over the batches, in the end divided by scale."""
    order = torch.randperm(len(train), generator=stream(SEEDS[0], "lissa batches"))
    batches = [order[start : start + batch_size] for start in range(0, len(train), batch_size)]
    hessians = [explicit_hessian(member.model, train[batch]) for batch in batches]
    columns = []
    for gradient in naive_gradients(member.model, test):
        s_test = gradient.clone()
        for hessian in hessians:
            s_test = gradient + (1 - damping) * s_test - hessian @ s_test / scale
        columns.append(naive_gradients(member.model, train) @ (s_test / scale))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize(
    ("scale", "batch_size", "num_test"),
    [for_some(1e4, 8, 3), (3.0, 3, 12)],
    ids=["published, fewer test examples", "small scale, fewer training examples"],
)
def test_scores_are_those_of_the_plain_recursion(tiny, scale: float, batch_size: int, num_test: int):
    train, test, members = tiny
    test = test[:num_test]
    (found,) = score("if_lissa", members[:1], train, test, scale=scale, batch_size=batch_size)
    expected = plain_scores(members[0], train, test, 5e-3, scale, batch_size)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


def test_hessian_counts_at_a_small_scale(tiny):
    train, test, members = tiny
    (found,), (dot,) = (score(name, members[:1], train, test, **{"scale": 3.0, "batch_size": 2} if name == "if_lissa" else {})
                        for name in ("if_lissa", "grad_dot"))  # fmt: skip
    assert torch.corrcoef(torch.stack([found.flatten(), dot.flatten()]))[0, 1] < 0.999


def test_second_operator_is_the_transpose_of_the_first(tiny):
    train, _, members = tiny
    forward, backward = lissa_operators(members[0], train, damping=5e-3, scale=3.0, batch_size=2)
    size, generator = len(flat_parameters(members[0].model)), torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 8, size, generator=generator, dtype=torch.float64)
    products = forward(left)[0] @ right.T
    torch.testing.assert_close(left @ backward(right)[0].T, products, rtol=1e-10, atol=1e-12 * size)
    assert (left @ forward(right)[0].T - products).abs().max() > 1e-6, "the operator is symmetric here, which shows nothing"


def test_published_scores_are_grad_dot_times_a_constant(ensemble: Ensemble):
    (found,) = score("if_lissa", ensemble.members(15), ensemble.train, ensemble.test)
    (dot,) = score("grad_dot", ensemble.members(15), ensemble.train, ensemble.test)
    # One batch of six: s = (2 - damping) v.
    torch.testing.assert_close(found * 1e4 / (2 - 5e-3), dot, rtol=1e-2, atol=1e-3 * float(dot.abs().max()))


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"scale": -1.0}, {"batch_size": 0}])
def test_unusable_settings_are_refused(ensemble: Ensemble, wrong: dict):
    with pytest.raises(UserError, match="LiSSA needs a positive scale and batch size"):
        score("if_lissa", ensemble.members(15), ensemble.train, ensemble.test, **wrong)
