"""The Gauss-Newton matrix in EK-FAC's coordinates against the explicit matrix."""

import pytest
import torch
from tiny_model import explicit_gauss_newton, naive_gradients
from torch import Tensor, nn

from tda.curvature import gauss_newton_rows as module
from tda.curvature.gauss_newton_rows import held_or_anew, matrix_products
from tda.curvature.kronecker_coordinates import kronecker_coordinates

EVERY_FAMILY = True


def test_inner_products_are_those_of_the_gradients(tiny):
    """The rotation loses nothing where a training gradient takes part, and has no more coordinates than parameters."""
    train, test, members = tiny
    model, objective = members[0].model, members[0].objective
    coordinates, diagonal = kronecker_coordinates(model, objective, train)
    left, right = (torch.cat([rows.dense() for rows in coordinates.rows(split, objective.loss)]) for split in (train, test))
    expected = naive_gradients(model, train) @ naive_gradients(model, test).T
    torch.testing.assert_close(left @ right.T, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))
    assert left.shape == (9, coordinates.size) and coordinates.size <= naive_gradients(model, test[:1]).shape[1]
    assert diagonal.shape == (coordinates.size,) and (diagonal >= 0).all()


class Tempered(nn.Module):
    """Logits times a temperature, a parameter of shape ()."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.scale = nn.Linear(784, 3), nn.Parameter(torch.tensor(1.5))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)) * self.scale


@pytest.mark.families("cnn")
def test_a_parameter_without_dimensions_has_a_coordinate(tiny):
    train, _, members = tiny
    torch.manual_seed(0)
    model, objective = Tempered().double(), members[0].objective
    coordinates, _ = kronecker_coordinates(model, objective, train)
    blocks = held_or_anew(lambda: coordinates.rows(train, objective.curvature_roots))
    rotated = torch.cat([rows.dense() for rows in coordinates.rows(train, objective.loss)])
    plain = naive_gradients(model, train)
    expected = plain @ explicit_gauss_newton(model, train) @ plain.T
    found = matrix_products(blocks, len(train), coordinates.cut)(rotated) @ rotated.T
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("held", [2**30, 1], ids=["held", "computed anew"])
def test_products_are_those_of_the_explicit_matrix(tiny, monkeypatch: pytest.MonkeyPatch, held: int):
    train, _, members = tiny
    model, objective = members[0].model, members[0].objective
    monkeypatch.setattr(module, "HELD_BYTES", held)
    coordinates, diagonal = kronecker_coordinates(model, objective, train)
    blocks = held_or_anew(lambda: coordinates.rows(train, objective.curvature_roots))
    product = matrix_products(blocks, len(train), coordinates.cut)
    rotated = torch.cat([rows.dense() for rows in coordinates.rows(train, objective.loss)])
    plain = naive_gradients(model, train)
    expected = plain @ explicit_gauss_newton(model, train) @ plain.T
    torch.testing.assert_close(product(rotated) @ rotated.T, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))
    matrix = product(torch.eye(coordinates.size, dtype=torch.float64))
    torch.testing.assert_close(matrix.diagonal(), diagonal, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(matrix.trace(), explicit_gauss_newton(model, train).trace(), rtol=1e-8, atol=0)
