"""The Gauss-Newton matrix by its kernel against the explicit matrix."""

import pytest
import torch
from conftest import for_some
from tiny_model import explicit_gauss_newton, flat_parameters, naive_gradients

from tda.curvature import dual_gauss_newton as module
from tda.curvature.dual_gauss_newton import dual_gauss_newton
from tda.curvature.products import flatten
from tda.methods.influence import dual_influence
from tda.system.errors import UserError
from tda.system.inputs import call

EVERY_FAMILY = True


def damped_inverse(matrix: torch.Tensor, damping: float) -> torch.Tensor:
    return torch.linalg.inv(matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype))


@pytest.mark.parametrize("damping", [5e-3, 0.1])
def test_inverse_is_the_explicit_one(tiny, damping: float):
    train, _, members = tiny
    model = members[0].model
    expected = damped_inverse(explicit_gauss_newton(model, train), damping)
    curvature = dual_gauss_newton(model, members[0].objective, train, damping)
    solved, residual = curvature.inverse(torch.eye(len(expected), dtype=torch.float64))
    torch.testing.assert_close(solved, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))
    assert residual < 1e-8 and curvature.kept == 1.0
    coarse, _ = curvature.inverse(torch.eye(len(expected)))
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_rows_give_the_matrix_and_the_system_its_kernel(tiny):
    train, _, members = tiny
    model, damping = members[0].model, 0.05
    curvature = dual_gauss_newton(model, members[0].objective, train, damping)
    rows = curvature.rows.dense()
    torch.testing.assert_close(rows.T @ rows / len(train), explicit_gauss_newton(model, train), rtol=1e-8, atol=1e-10)
    identity = torch.eye(len(rows), dtype=torch.float64)
    torch.testing.assert_close(curvature.system, rows @ rows.T / len(train) + damping * identity, rtol=1e-9, atol=1e-11)
    right_sides = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    solved, residual = curvature.solve(right_sides)
    torch.testing.assert_close(solved, torch.linalg.solve(curvature.system, right_sides), rtol=1e-7, atol=1e-9)
    assert residual == pytest.approx(
        float(((curvature.system @ solved - right_sides).norm(dim=0) / right_sides.norm(dim=0)).max())
    )


@pytest.mark.families("cnn", "vit", "language")
@pytest.mark.parametrize("examples", [1, for_some(3, families=("cnn", "vit"))])
def test_rows_that_do_not_fit_give_the_same(tiny, monkeypatch: pytest.MonkeyPatch, examples: int):
    train, test, members = tiny
    model, objective = members[0].model, members[0].objective
    held = dual_gauss_newton(model, objective, train, 0.05)
    vectors = torch.randn(2, len(flat_parameters(model)), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = dual_influence(model, objective, train, test, 0.05)[0]
    monkeypatch.setattr(module, "HELD_BYTES", examples * held.rows.size_in_bytes() // len(train))
    streamed = dual_gauss_newton(model, objective, train, 0.05)
    assert streamed.rows is None
    torch.testing.assert_close(streamed.system, held.system, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(streamed.inverse(vectors)[0], held.inverse(vectors)[0], rtol=1e-8, atol=1e-10)
    exact = test.cast(torch.float64)
    cross = held.rows.inner(held.plan.rows(exact.inputs, exact.labels, objective.loss))
    torch.testing.assert_close(streamed.cross(exact, objective.loss), cross, rtol=1e-9, atol=1e-12)
    found, residual = dual_influence(model, objective, train, test, 0.05)
    torch.testing.assert_close(found, scores, rtol=1e-5, atol=1e-6 * float(scores.abs().max()))
    assert residual < 1e-10


def test_longest_rows_alone_are_kept(tiny):
    train, _, members = tiny
    model, objective = members[0].model, members[0].objective
    rows = naive_gradients(model, train, lambda logits, label: objective.logit_roots(logits, label[None]))
    sizes = rows.square().sum(dim=1)
    part = dual_gauss_newton(model, objective, train, 0.05, most_rows=5)
    longest = sizes.argsort(descending=True)[:5]
    torch.testing.assert_close(part.rows.dense(), rows[longest], rtol=1e-9, atol=1e-11)
    assert part.kept == pytest.approx(float(sizes[longest].sum() / sizes.sum())) and 0 < part.kept < 1
    kept = part.rows.dense()
    vectors = naive_gradients(model, train)
    expected = vectors @ damped_inverse(kept.T @ kept / len(train), 0.05)
    torch.testing.assert_close(part.inverse(vectors)[0], expected, rtol=1e-7, atol=1e-8 * float(expected.abs().max()))
    assert dual_gauss_newton(model, objective, train, 0.05, most_rows=len(sizes)).kept == 1.0


def test_loss_gradients_are_combinations_of_the_rows(tiny):
    """g_i = B_i^T u_i, with u the objective's root weights."""
    train, _, members = tiny
    model, objective = members[0].model, members[0].objective
    curvature = dual_gauss_newton(model, objective, train, 0.05)
    inputs, labels = next(train.batches(len(train)))
    with torch.no_grad():
        logits = call(model, inputs)
    weights = torch.block_diag(*objective.root_weights(logits, labels)[:, None, :])
    found = flatten(curvature.rows.combined(weights))
    torch.testing.assert_close(found, naive_gradients(model, train), rtol=1e-8, atol=1e-10)


def test_zero_vector_has_the_solution_zero(tiny):
    train, _, members = tiny
    nothing = torch.zeros(2, len(flat_parameters(members[0].model)), dtype=torch.float64)
    solved, residual = dual_gauss_newton(members[0].model, members[0].objective, train, 0.1).inverse(nothing)
    assert (solved == 0).all() and residual == 0


def test_model_and_examples_of_the_caller_stay_in_their_precision(tiny):
    train, _, members = tiny
    model, coarse = members[0].model.float(), train.cast(torch.float32)
    curvature = dual_gauss_newton(model, members[0].objective, coarse, 0.1)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in curvature.model.parameters()} == {torch.float64}
    assert curvature.system.dtype == torch.float64


@pytest.mark.parametrize("damping", [0.0, -1.0])
def test_damping_that_is_not_positive_is_refused(tiny, damping: float):
    train, _, members = tiny
    with pytest.raises(UserError, match=f"must be positive, not {damping}"):
        dual_gauss_newton(members[0].model, members[0].objective, train, damping)
