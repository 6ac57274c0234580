"""Layers and parameters that few models have: recurrent ones, sequences first, sparse tables, single numbers."""

import pytest
import torch
from single_examples import (
    CLASSES,
    WIDTH,
    assert_close,
    assert_gradients_are_those_alone,
    features,
    gradients_alone,
    labels_of,
    seeded,
)
from torch import Tensor, nn
from torch.nn import functional

from tda.curvature.products import flatten, gauss_newton_products, hessian_products
from tda.data.splits import Split
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import Classification
from tda.gradients.projections import KINDS, Projection
from tda.gradients.quantities import cross_entropy_loss

LENGTH = 5
pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor"),
]


def sequences(count: int = 12, length: int = LENGTH) -> Tensor:
    """(n, T, WIDTH) float64."""
    return features(count * length).view(count, length, WIDTH)


class Recurrent(nn.Module):
    """A recurrent network of two layers and both directions; its last states are outputs with the examples second."""

    def __init__(self, cell: type[nn.Module], batch_first: bool) -> None:
        super().__init__()
        self.cell = cell(WIDTH, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
        self.batch_first, self.head = batch_first, nn.Linear(12, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs, last = self.cell(inputs if self.batch_first else inputs.transpose(0, 1))
        last = last[0] if isinstance(last, tuple) else last
        return self.head(torch.cat([outputs.mean(1 if self.batch_first else 0), last[-1]], dim=1))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks(cell: type[nn.Module], batch_first: bool) -> None:
    model = seeded(Recurrent, cell, batch_first)
    plan = assert_gradients_are_those_alone(model, sequences())
    # The cell is run again one example at a time, not the model.
    assert not plan.whole_model and [layer.module for layer in plan.layers if not layer.vectorized] == [model.cell]


class Unrolled(nn.Module):
    """A cell that is called once for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(WIDTH, 4), nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        state = inputs.new_zeros(len(inputs), 4)
        for token in inputs.unbind(1):
            state = self.cell(token, state)
        return self.head(state)


def test_a_cell_called_again_and_again() -> None:
    assert not assert_gradients_are_those_alone(seeded(Unrolled), sequences()).whole_model


class Packed(nn.Module):
    """Texts of different lengths, packed and sorted by length."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.cell, self.head = nn.Embedding(7, 4), nn.LSTM(4, 4, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        return self.head(self.cell(packed)[1][0][-1])


def tokens(count: int = 12, vocabulary: int = 7) -> Tensor:
    return torch.randint(vocabulary, (count, LENGTH), generator=torch.Generator().manual_seed(0))


def lengths(count: int = 12) -> Tensor:
    return torch.randint(1, LENGTH + 1, (count,), generator=torch.Generator().manual_seed(1))


def test_packed_sequences() -> None:
    assert_gradients_are_those_alone(seeded(Packed), {"tokens": tokens(), "lengths": lengths()})


class SequenceFirst(nn.Module):
    """A transformer that takes (T, n, WIDTH), with a causal mask (T, T) and a mask of padding (n, T)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.attention = nn.MultiheadAttention(WIDTH, 2, add_bias_kv=True)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.1), 1)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor, padding: Tensor) -> Tensor:
        hidden = inputs.transpose(0, 1)
        causal = torch.ones(len(hidden), len(hidden), dtype=torch.bool).triu(1)
        if self.kind == "attention":
            hidden, _ = self.attention(hidden, hidden, hidden, key_padding_mask=padding, attn_mask=causal)
        else:
            hidden = self.encoder(hidden, mask=causal, src_key_padding_mask=padding)
        return self.head(hidden.mean(0))


@pytest.mark.parametrize("kind", ["attention", "encoder"])
@pytest.mark.parametrize("block_size", [5, 7])
def test_sequences_first_with_masks(kind: str, block_size: int) -> None:
    """A block of five texts of five tokens has masks that are as long one way as the other."""
    inputs = {"inputs": sequences(), "padding": torch.arange(LENGTH) >= lengths()[:, None]}
    plan = assert_gradients_are_those_alone(seeded(SequenceFirst, kind), inputs, block_size=block_size)
    assert not plan.whole_model and all(layer.vectorized for layer in plan.layers)


class Temperature(nn.Module):
    """A number that scales logits, as CLIP's logit_scale, and one inside a module."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale, self.inner = nn.Parameter(torch.tensor(0.5)), nn.Sequential(Gate(), nn.Linear(WIDTH, CLASSES))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs) * self.logit_scale.exp()


class Gate(nn.Module):
    """ReZero's alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.layer = nn.Parameter(torch.tensor(0.3)), nn.Linear(WIDTH, WIDTH)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.alpha * torch.tanh(self.layer(inputs))


def test_parameters_that_are_a_single_number() -> None:
    model, inputs = seeded(Temperature), features()
    plan = assert_gradients_are_those_alone(model, inputs)
    assert plan.whole_model == ["logit_scale"]
    labels = labels_of(inputs)
    rows, expected = plan.rows(inputs, labels, cross_entropy_loss), gradients_alone(model, inputs, labels, cross_entropy_loss)
    vectors = {name: torch.ones(2, *shape, dtype=torch.float64) for name, shape in plan.shapes.items()}
    torch.testing.assert_close(rows.times(vectors), expected.sum(dim=1).expand(2, -1))
    assert rows.combined(torch.ones(1, len(inputs), dtype=torch.float64))["logit_scale"].shape == (1,)
    for kind in KINDS:
        projection = Projection(16, 0, kind)
        matrix = torch.cat([part for part in projection.matrix(plan.shapes).values()], dim=1)
        torch.testing.assert_close(projection.project(rows), expected @ matrix.T)


def test_curvature_of_parameters_that_are_a_single_number() -> None:
    model, inputs = seeded(Temperature), features()
    split = Split(inputs, labels_of(inputs), torch.arange(len(inputs)))
    count = sum(parameter.numel() for parameter in model.parameters())
    identity = torch.eye(count, dtype=torch.float64)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([part.numel() for part in parameters.values()])
        weights = {name: piece.view(part.shape) for (name, part), piece in zip(parameters.items(), pieces, strict=True)}
        return cross_entropy_loss(torch.func.functional_call(model, weights, (inputs,)), split.labels).mean()

    start = flatten({name: part[None] for name, part in parameters.items()})[0]
    expected = torch.autograd.functional.hessian(loss, start)
    torch.testing.assert_close(hessian_products(model, Classification(), split)(identity), expected)
    assert gauss_newton_products(model, Classification(), split)(identity).shape == (count, count)


class Table(nn.Module):
    """Texts through a table whose gradient torch gives as a sparse tensor; tied: read without a call, too."""

    def __init__(self, table: nn.Module, tied: bool = False) -> None:
        super().__init__()
        self.table, self.tied, self.head = table, tied, nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.table(inputs)
        hidden = hidden if hidden.dim() == 2 else hidden.mean(1)
        if self.tied:
            hidden = hidden + functional.embedding(inputs[:, 0], self.table.weight, sparse=True)
        return self.head(hidden.tanh())


TABLES = {
    "sparse": lambda: Table(nn.Embedding(7, 4, sparse=True)),
    "sparse and padded": lambda: Table(nn.Embedding(7, 4, sparse=True, padding_idx=0)),
    "sparse and tied": lambda: Table(nn.Embedding(7, 4, sparse=True), tied=True),
    "scaled by frequency": lambda: Table(nn.Embedding(7, 4, scale_grad_by_freq=True)),
    "bag": lambda: Table(nn.EmbeddingBag(7, 4)),
    "sparse bag": lambda: Table(nn.EmbeddingBag(7, 4, sparse=True, mode="sum")),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    assert_gradients_are_those_alone(seeded(TABLES[name]), tokens())


class Positions(nn.Module):
    """Positions that all examples share, in a batch as large as they are many, inside a module and in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.head = nn.Embedding(LENGTH, WIDTH), SharedInside(), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.inner(inputs + self.table(torch.arange(LENGTH))).mean(1))


class SharedInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.mixing = nn.Embedding(LENGTH, WIDTH), nn.Linear(LENGTH, LENGTH)

    def forward(self, inputs: Tensor) -> Tensor:
        moved = self.mixing((inputs + self.table.weight).transpose(1, 2)).transpose(1, 2)
        return torch.tanh(moved + self.table(torch.arange(LENGTH)))


@pytest.mark.parametrize("block_size", [LENGTH, 7])
def test_positions_that_the_examples_share(block_size: int) -> None:
    plan = assert_gradients_are_those_alone(seeded(Positions), sequences(), block_size=block_size)
    assert plan.whole_model == ["table.weight"]


def test_the_model_in_training_mode_draws_nothing() -> None:
    model = seeded(SequenceFirst, "encoder").train()
    inputs = {"inputs": sequences(), "padding": torch.arange(LENGTH) >= lengths()[:, None]}
    labels = labels_of(inputs)
    rows = plan_gradients(model, inputs).rows(inputs, labels, cross_entropy_loss).dense()
    assert model.training
    assert_close(rows, gradients_alone(model.eval(), inputs, labels, cross_entropy_loss), 1e-9)
