"""Products by the curvature's rows against the explicit matrix and its explicit kernel."""

import pytest
import torch
from conftest import for_some
from tiny_model import explicit_gauss_newton, naive_gradients

from tda.curvature import gauss_newton_rows as module
from tda.curvature.gauss_newton_rows import combined, held_or_anew, kernel_products, matrix_products
from tda.curvature.kronecker_coordinates import with_factors
from tda.curvature.products import flatten, unflatten
from tda.gradients.gradient_plan import plan_gradients

EVERY_FAMILY = True


@pytest.mark.parametrize("held", [for_some(2**30), 1], ids=["held", "computed anew"])
@pytest.mark.parametrize("block_size", [4, for_some(9)])
def test_products_are_those_of_the_explicit_matrices(tiny, monkeypatch: pytest.MonkeyPatch, held: int, block_size: int):
    train, _, members = tiny
    model, objective, passes = members[0].model, members[0].objective, []
    monkeypatch.setattr(module, "HELD_BYTES", held)
    plan = with_factors(plan_gradients(model, train.inputs))

    def anew():
        passes.append(1)
        return plan.streamed(train.inputs, train.labels, objective.curvature_roots, block_size)

    blocks = held_or_anew(anew)
    roots = naive_gradients(model, train, lambda logits, label: objective.curvature_roots(logits, label[None]))
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, roots.shape[1], generator=generator, dtype=torch.float64)
    found = matrix_products(blocks, len(train), lambda rows: unflatten(rows, model))(vectors)
    torch.testing.assert_close(found, vectors @ explicit_gauss_newton(model, train), rtol=1e-7, atol=1e-9)
    weights = torch.randn(3, len(roots), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(flatten(combined(blocks, weights)), weights @ roots, rtol=1e-7, atol=1e-9)
    for at_once in (1, 3):
        found = kernel_products(blocks, len(train), at_once)(weights)
        torch.testing.assert_close(found, weights @ (roots @ roots.T) / len(train), rtol=1e-7, atol=1e-9)
    assert len(passes) == (1 if held > 1 else len(passes)) and (held > 1 or len(passes) > 5)
    # Nothing that is held was changed by a product.
    torch.testing.assert_close(flatten(combined(blocks, weights)), weights @ roots, rtol=1e-7, atol=1e-9)
