"""Weights that embeddings and linear layers share, and tables that all examples share, against autograd, one at a time."""

from dataclasses import replace

import pytest
import torch
from single_examples import assert_close, assert_gradients_are_those_alone, gradients_alone, labels_of
from torch import Tensor, nn

from tda.gradients.example_by_example import rows_example_by_example
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.gradient_rows import joined_rows
from tda.gradients.projections import KINDS, Projection
from tda.gradients.tied_rows import TiedRows

WORDS, WIDTH, COUNT = 9, 4, 7


class Tied(nn.Module):
    """Logits of every next word from a mean over those before it; one table for reading, places and writing."""

    def __init__(self, bias: bool = False, second: bool = False, padding: int | None = None) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH, padding_idx=padding), nn.Embedding(6, WIDTH)
        self.mixing, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WORDS, bias=bias)
        self.head.weight = self.words.weight
        self.other = nn.Embedding(WORDS, WIDTH) if second else None
        if second:
            self.other.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.words(tokens) + self.places(torch.arange(tokens.shape[1])[None])
        if self.other is not None:
            hidden = hidden + self.other(tokens.flip(1)[:, :3]).mean(1, keepdim=True)
        counts = torch.arange(1, tokens.shape[1] + 1)[:, None]
        return self.head(torch.tanh(self.mixing(hidden.cumsum(1) / counts)) + hidden)


class Borrowed(Tied):
    """The same, but the table is read without a call as well, which no module accounts for."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) * self.words.weight.sum().tanh()


def quantities(logits: Tensor, labels: Tensor) -> Tensor:
    flat = logits.flatten(1)
    return torch.stack([flat.square().sum(1) / 10 + flat[:, 0] * labels, flat[:, -1].exp()], dim=1)


def prepared(kind: type[nn.Module], **options: object) -> nn.Module:
    torch.manual_seed(0)
    return kind(**options).double().eval()


def tokens(count: int = COUNT) -> Tensor:
    return torch.randint(WORDS, (count, 5), generator=torch.Generator().manual_seed(1))


CASES = {"tied": {}, "with a bias": {"bias": True}, "twice": {"second": True}, "padding": {"padding": 2}}


def tied_layer(plan: GradientPlan) -> int:
    (place,) = (place for place, layer in enumerate(plan.layers) if layer.others)
    return place


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_single_examples(case: str):
    plan = assert_gradients_are_those_alone(prepared(Tied, **CASES[case]), tokens(18), quantities=(quantities,), block_size=5)
    assert not plan.whole_model
    assert len(plan.layers[tied_layer(plan)].others) == (2 if case == "twice" else 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("factored", [True, False])
def test_every_product_of_the_rows(case: str, factored: bool, monkeypatch: pytest.MonkeyPatch):
    model, inputs = prepared(Tied, **CASES[case]), tokens()
    plan, labels = plan_gradients(model, inputs), labels_of(inputs)
    place = tied_layer(plan)
    plan = replace(plan, layers=[replace(layer, factored=factored or layer.factored) for layer in plan.layers])
    if not factored:
        plan.layers[place] = replace(plan.layers[place], factored=False)
    names = list(plan.shapes)
    expected = gradients_alone(model, inputs, labels, quantities, names)
    for elements in (2**21, 50):
        monkeypatch.setattr("tda.gradients.factored_rows._CHUNK_ELEMENTS", elements)
        blocks = [
            plan.block_rows(inputs[part], labels[part], quantities) for part in (slice(0, 3), slice(3, 4), slice(4, COUNT))
        ]
        rows = joined_rows(blocks)
        assert isinstance(rows.layers[place], TiedRows) == factored
        assert_close(rows.dense(names), expected, 1e-12)
        assert_close(rows.inner(rows), expected @ expected.T, 1e-12)
        assert_close(rows.gram(), expected @ expected.T, 1e-12)
        assert_close(rows.squared_norms(), expected.square().sum(1), 1e-12)
        ends = expected.unflatten(0, (COUNT, 2)).flatten(1)
        assert_close(rows.joined().inner(rows.joined()), ends @ ends.T, 1e-12)
        some = torch.tensor([5, 0, 13])
        assert_close(rows.chosen(some).inner(rows), expected[some] @ expected.T, 1e-12)
        vectors = {name: torch.randn(3, *shape, dtype=torch.float64) for name, shape in plan.shapes.items()}
        flat = torch.cat([vectors[name].flatten(1) for name in names], dim=1)
        assert_close(rows.times(vectors), flat @ expected.T, 1e-12)
        weights = torch.randn(4, 2 * COUNT, dtype=torch.float64)
        combined = rows.combined(weights)
        assert_close(torch.cat([combined[name].flatten(1) for name in names], dim=1), weights @ expected, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_projections(kind: str):
    model, inputs = prepared(Tied), tokens()
    plan, labels, projection = plan_gradients(model, inputs), labels_of(inputs), Projection(8, 0, kind)
    matrix = torch.cat(list(projection.matrix(plan.shapes).values()), dim=1)
    expected = gradients_alone(model, inputs, labels, quantities) @ matrix.T
    assert_close(projection.project(plan.rows(inputs, labels, quantities)), expected, 1e-12)


def test_the_slower_way_gives_rows_of_the_same_form():
    model, inputs = prepared(Tied, bias=True), tokens()
    plan, labels = plan_gradients(model, inputs), labels_of(inputs)
    layers = [replace(layer, factored=True) if layer.others else layer for layer in plan.layers]
    slower = rows_example_by_example(model, layers, [], inputs, labels, quantities)
    rows = replace(plan, layers=layers).rows(inputs, labels, quantities)
    for left, right in zip(slower, rows.layers, strict=True):
        assert type(left) is type(right)
        found, expected = left.gradients(), right.gradients()
        for name, gradient in expected.items():
            assert_close(found[name], gradient, 1e-12)
        assert_close(left.inner(right), right.inner(right), 1e-12)


def test_a_table_that_is_read_without_a_call_is_left_to_the_model():
    plan = assert_gradients_are_those_alone(prepared(Borrowed), tokens(18), quantities=(quantities,))
    assert plan.whole_model == ["words.weight"]


class Scaled(Tied):
    """Places that are changed where they lie, which an output laid out for every example does not allow."""

    def forward(self, tokens: Tensor) -> Tensor:
        places = self.places(torch.arange(tokens.shape[1])[None])
        places.mul_(2)
        return self.head(torch.tanh(self.mixing(self.words(tokens) + places)))


def test_places_that_cannot_be_laid_out_go_another_way():
    plan = assert_gradients_are_those_alone(prepared(Scaled), tokens(18), quantities=(quantities,))
    assert not any(layer.spread for layer in plan.layers)
