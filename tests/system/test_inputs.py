"""Inputs of any kind, and the one place that knows how a model takes them."""

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tda.system.inputs import (
    Inputs,
    batches_of,
    call,
    cast,
    chosen,
    count_of,
    device_of,
    logits_of,
    mapped,
    parts_of,
)

PICTURES = torch.arange(20.0).view(5, 4)
PAIR = {"tokens": torch.arange(15).view(5, 3), "pixels": torch.arange(10.0).view(5, 2)}
KINDS = pytest.mark.parametrize("inputs", [PICTURES, PAIR], ids=["tensor", "dict"])


def assert_equal(left: Inputs, right: Inputs) -> None:
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
    for ours, theirs in zip(parts_of(left), parts_of(right), strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


class OfTensor(nn.Module):
    """Logits of a tensor, returned as `form` says."""

    def __init__(self, form) -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(4, 3), form

    def forward(self, inputs: Tensor) -> object:
        return self.form(self.layer(inputs))


class OfPair(nn.Module):
    """Logits of token ids and pixels, which are arguments by name."""

    def __init__(self, form) -> None:
        super().__init__()
        self.words, self.layer, self.form = nn.Embedding(15, 3), nn.Linear(2, 3), form
        self.register_buffer("shift", torch.ones(3))

    def forward(self, pixels: Tensor, tokens: Tensor) -> object:
        return self.form(self.words(tokens).sum(1) + self.layer(pixels) + self.shift)


FORMS = {
    "tensor": lambda logits: logits,
    "tuple": lambda logits: (logits, logits + 1),
    "list": lambda logits: [logits, "hidden states"],
    "named tuple": lambda logits: namedtuple("Output", "logits loss")(logits, None),
    "attribute": lambda logits: SimpleNamespace(loss=None, logits=logits),
    "mapping": lambda logits: {"loss": None, "logits": logits},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_logits_are_found_in_whatever_a_model_returns(form):
    model = OfTensor(form)
    torch.testing.assert_close(call(model, PICTURES), PICTURES @ model.layer.weight.T + model.layer.bias)
    model = OfPair(form)
    expected = model.words.weight[PAIR["tokens"]].sum(1) + PAIR["pixels"] @ model.layer.weight.T + model.layer.bias + 1
    torch.testing.assert_close(call(model, PAIR), expected)


def test_logits_of_a_transformers_output():
    from transformers.modeling_outputs import ImageClassifierOutput, SequenceClassifierOutput

    for kind in (ImageClassifierOutput, SequenceClassifierOutput):
        assert logits_of(kind(loss=torch.zeros(()), logits=PICTURES)) is PICTURES


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_weights_take_the_place_of_the_model_s_own(form):
    model = OfPair(form)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = {"layer.weight": torch.zeros(3, 2), "layer.bias": torch.full((3,), 5.0)}
    words = model.words.weight[PAIR["tokens"]].sum(1)
    torch.testing.assert_close(call(model, PAIR, parameters), words + 5 + 1)
    torch.testing.assert_close(call(model, PAIR, (parameters, {"shift": torch.zeros(3)})), words + 5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradients_pass_through_weights():
    model = OfTensor(FORMS["attribute"])
    weight = torch.zeros(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(call(model, PICTURES, {"layer.weight": weight})[:, 1].sum(), weight)
    torch.testing.assert_close(gradient, torch.stack([torch.zeros(4), PICTURES.sum(0), torch.zeros(4)]))


def test_cast_leaves_integers_alone():
    whole = PAIR | {"mask": torch.tensor([True, False, True, True, False])}
    for dtype in (torch.float64, torch.bfloat16):
        found = cast(whole, dtype)
        assert {name: part.dtype for name, part in found.items()} == {
            "tokens": torch.int64,
            "pixels": dtype,
            "mask": torch.bool,
        }
        assert torch.equal(found["pixels"], PAIR["pixels"].to(dtype)) and torch.equal(found["tokens"], PAIR["tokens"])
    assert cast(PICTURES, torch.float64).dtype == torch.float64 and cast(PAIR["tokens"], torch.float64).dtype == torch.int64


@KINDS
def test_chosen_examples_come_in_their_order_from_every_part(inputs: Inputs):
    for positions, expected in (([3, 0], [3, 0]), (slice(1, 4), [1, 2, 3]), (torch.tensor([4, 4, 1]), [4, 4, 1])):
        found = chosen(inputs, positions)
        assert_equal(found, mapped(inputs, lambda part, which=expected: torch.stack([part[place] for place in which])))
    assert parts_of(chosen(inputs, torch.tensor([[0, 1], [2, 3]])))[0].shape[:2] == (2, 2)


@KINDS
@pytest.mark.parametrize(("size", "counts"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (64, [5])])
def test_batches_are_the_inputs_in_order(inputs: Inputs, size: int, counts: list[int]):
    batches = list(batches_of(inputs, size))
    assert [count_of(batch) for batch in batches] == counts
    for place, batch in enumerate(batches):
        assert_equal(batch, mapped(inputs, lambda part, which=place: part.split(size)[which]))


def test_parts_count_and_device():
    assert parts_of(PICTURES) == [PICTURES] and [id(part) for part in parts_of(PAIR)] == [id(part) for part in PAIR.values()]
    assert count_of(PICTURES) == count_of(PAIR) == 5
    assert device_of(PICTURES) == device_of(PAIR) == torch.device("cpu")
    assert_equal(mapped(PAIR, lambda part: part + 1), {name: part + 1 for name, part in PAIR.items()})


class Shared(nn.Module):
    """One module in two places, and another whose weight is tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(4, 2)
        self.inner = nn.Module()
        self.inner.words = self.words
        self.head = nn.Linear(2, 4, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.words(tokens) + self.inner.words(tokens))


def test_other_weights_take_the_place_of_shared_ones_and_leave_them_alone():
    model, tokens = Shared(), torch.tensor([[1, 2], [3, 0]])
    weight = model.words.weight
    for name in ("words.weight", "inner.words.weight", "head.weight"):
        other = torch.randn(4, 2, requires_grad=True)
        found = call(model, tokens, {name: other})
        torch.testing.assert_close(found, 2 * other[tokens] @ other.T)
        assert model.words.weight is weight is model.head.weight and call(model, tokens).requires_grad
        torch.testing.assert_close(call(model, tokens), 2 * weight[tokens] @ weight.T)
