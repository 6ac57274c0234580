"""Random projections: the same for every batch and form of the gradients, and right inner products."""

import pytest
import torch
from torch import Tensor, nn

from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.projections import KINDS, Projection
from tda.gradients.quantities import all_logits, margin
from tda.system.errors import UserError

LABELS = torch.tensor([0, 2, 1, 2, 0])


def convolutional() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, groups=2), nn.GroupNorm(2, 4), nn.GELU(), nn.Conv2d(4, 6, 2, bias=False), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(54, 3)).double(), torch.randn(5, 2, 6, 6, dtype=torch.float64)


def textual() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(24, 3)).double(), torch.randint(11, (5, 6))


def rows_of(model: nn.Module, inputs: Tensor, examples: int, quantity=margin) -> GradientRows:
    """Gradients in the forms that suit inner products between so many examples."""
    plan = plan_gradients(model, inputs, left_examples=examples, right_examples=examples)
    return plan.rows(inputs, LABELS, quantity)


def explicit(projection: Projection, rows: GradientRows) -> Tensor:
    matrices = projection.matrix(rows.shapes)
    return rows.dense() @ torch.cat([matrices[name] for name in rows.shapes], dim=1).T


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", [convolutional, textual])
@pytest.mark.parametrize("dimension", [1, 2, 7, 64])
def test_projection_is_the_explicit_matrix_in_every_form(kind: str, build, dimension: int):
    model, inputs = build()
    projection = Projection(dimension, seed=3, kind=kind)
    for examples in (1, 10**6):
        for quantity in (margin, all_logits):
            rows = rows_of(model, inputs, examples, quantity)
            torch.testing.assert_close(projection.project(rows), explicit(projection, rows))


@pytest.mark.parametrize("kind", KINDS)
def test_projection_does_not_depend_on_batches_or_on_what_was_projected_before(kind: str):
    model, inputs = convolutional()
    plan = plan_gradients(model, inputs)
    whole = Projection(16, 1, kind).project(plan.rows(inputs, LABELS, margin))
    projection = Projection(16, 1, kind)
    for i in reversed(range(5)):
        one = projection.project(plan.rows(inputs[i : i + 1], LABELS[i : i + 1], margin))
        torch.testing.assert_close(one, whole[i : i + 1])
    assert not torch.allclose(Projection(16, 2, kind).project(plan.rows(inputs, LABELS, margin)), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_one_projection_serves_parameters_of_one_name_and_several_shapes(kind: str):
    projection = Projection(8, kind=kind)
    for shape in ((6, 5), (4, 3), (3, 4)):
        gradients = {"weight": torch.randn(2, *shape)}
        expected = Projection(8, kind=kind).project_gradients(gradients)
        torch.testing.assert_close(projection.project_gradients(gradients), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_dense_blocks_and_chunks_of_spectra_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch):
    model, inputs = convolutional()
    rows = rows_of(model, inputs, 1)
    monkeypatch.setattr("tda.gradients.projections._SPECTRUM_COST", 0)
    monkeypatch.setattr("tda.gradients.projections._SPECTRUM_ENTRIES", 1)
    monkeypatch.setattr("tda.gradients.projections._BLOCK_ENTRIES", 16 * 5)
    monkeypatch.setattr("tda.gradients.projections._HELD_ENTRIES", 0)
    projection = Projection(16, 1, kind)
    torch.testing.assert_close(projection.project(rows), explicit(projection, rows))


@pytest.mark.parametrize(("kind", "bound"), [("normal", 2.0), ("rademacher", 2.0), ("sparse", 11.0)])
def test_inner_products_are_right_on_average_with_the_stated_variance(kind: str, bound: float):
    torch.manual_seed(0)
    shapes = {"weight": torch.Size((5, 6)), "bias": torch.Size((5,))}
    left, right = ({name: torch.randn(1, *shape, dtype=torch.float64) for name, shape in shapes.items()} for _ in range(2))
    exact = sum((left[name] * right[name]).sum() for name in shapes)
    norms = [sum(part.square().sum() for part in vector.values()) for vector in (left, right)]
    dimension, draws = 8, 2000
    found = []
    for seed in range(draws):
        projection = Projection(dimension, seed, kind)
        found.append((projection.project_gradients(left) * projection.project_gradients(right)).sum())
    found = torch.stack(found)
    assert found.var() < bound * norms[0] * norms[1] / dimension
    assert abs(found.mean() - exact) < 4 * found.std() / draws**0.5


def test_signs_are_balanced_and_independent():
    matrix = Projection(256, 0, "rademacher").matrix({"weight": torch.Size((128,))})["weight"] * 16
    assert set(matrix.unique().tolist()) == {-1.0, 1.0}
    assert abs(matrix.mean()) < 4 / matrix.numel() ** 0.5
    products = matrix.T @ matrix / 256
    assert (products - torch.eye(128, dtype=torch.float64)).abs().max() < 6 / 16


def test_bad_settings_are_one_sentence():
    with pytest.raises(UserError, match="unknown kind of projection 'dense'; choose one of normal, rademacher, sparse"):
        Projection(4, kind="dense")
    with pytest.raises(UserError, match="choose at least 1"):
        Projection(0)
