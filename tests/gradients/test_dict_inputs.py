"""Dicts of token ids, masks and pictures through every function of the room, against autograd, one example at a time."""

from collections.abc import Callable

import pytest
import tiny_texts
import torch
from tiny_model import loss_of_one, margin_of_one, naive_gradients
from tiny_texts import LanguageModel, TextClassifier, texts_of
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.activation_memory import activation_bytes
from tda.gradients.gradient_kernel import examples_at_once, gradient_kernel
from tda.gradients.gradient_plan import looped_gradients, plan_gradients
from tda.gradients.objectives import Classification, NextToken, Objective
from tda.gradients.projections import KINDS, Projection
from tda.gradients.quantities import all_logits
from tda.gradients.representations import classifier_of, penultimate_representations
from tda.gradients.second_moment import second_moment

Example = tuple[nn.Module, Objective, Split, Split]


class TiedLanguageModel(LanguageModel):
    """A language model whose last layer holds the embedding's weight, as most have it."""

    def __init__(self) -> None:
        super().__init__()
        self.head.weight = self.trunk.words.weight


class CaptionClassifier(TextClassifier):
    """Three logits from a text and a picture beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 3, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        """Logits (n, 3)."""
        return super().forward(input_ids, attention_mask) * self.patches(pixel_values).mean(dim=(2, 3)).exp()


MODELS: dict[str, tuple[Callable[[], nn.Module], Objective]] = {
    "text": (TextClassifier, Classification()),
    "image and text": (CaptionClassifier, Classification()),
    "language": (LanguageModel, NextToken()),
    "tied language": (TiedLanguageModel, NextToken()),
}


@pytest.fixture(params=MODELS)
def example(request: pytest.FixtureRequest) -> Example:
    """A model in float64 with its objective, 3 examples for the left and 5 for the right, padded to one length."""
    build, objective = MODELS[request.param]
    torch.manual_seed(0)
    model = build().double().eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return model, objective, *(examples(request.param, objective, positions) for positions in ((3, 40, 62), (0, 1, 30, 31, 88)))


def examples(name: str, objective: Objective, positions: tuple[int, ...]) -> Split:
    pool = texts_of("train")
    inputs = tiny_texts.encode(pool.examples_at(list(positions)).tolist())
    counts = inputs["attention_mask"].sum(dim=1)
    assert counts.min() < counts.max(), "some texts are padded, and not all alike"
    if name == "image and text":
        inputs["pixel_values"] = torch.randn(len(positions), 1, 4, 4, dtype=torch.float64)
    classes = torch.from_numpy(pool.labels[list(positions)])
    return Split(inputs, objective.labels(inputs, classes), torch.tensor(positions))


def pair(split: Split) -> tuple[dict[str, Tensor], Tensor]:
    return split.inputs, split.labels


def all_logits_of_one(logits: Tensor, label: Tensor) -> Tensor:
    return logits.flatten()


@pytest.mark.parametrize("number", range(3))
def test_kernel_is_that_of_autograd(example: Example, number: int):
    model, objective, left, right = example
    quantity, of_one = [(objective.loss, loss_of_one), (objective.margin, margin_of_one), (all_logits, all_logits_of_one)][
        number
    ]
    expected_left, expected_right = (naive_gradients(model, split, of_one) for split in (left, right))
    for block_size in (None, 2):
        kernel = gradient_kernel(model, pair(left), pair(right), quantity, left_gram=True, block_size=block_size)
        torch.testing.assert_close(kernel.cross, expected_left @ expected_right.T)
        torch.testing.assert_close(kernel.left_gram, expected_left @ expected_left.T)
        torch.testing.assert_close(kernel.left_norms, expected_left.norm(dim=1))
        torch.testing.assert_close(kernel.right_norms, expected_right.norm(dim=1))


def test_no_weight_needs_the_whole_model(example: Example):
    model, _, left, _ = example
    assert plan_gradients(model, left.inputs).whole_model == []


def test_both_places_of_a_tied_weight_count():
    torch.manual_seed(0)
    model, split = TiedLanguageModel().double(), examples("tied language", NextToken(), (0, 1, 30))
    apart = LanguageModel().double()
    apart.load_state_dict(model.state_dict())
    rows = plan_gradients(model, split.inputs).rows(*pair(split), NextToken().loss).gradients()
    others = plan_gradients(apart, split.inputs).rows(*pair(split), NextToken().loss).gradients()
    assert "head.weight" not in rows and "head.weight" in others
    torch.testing.assert_close(rows["trunk.words.weight"], others["trunk.words.weight"] + others["head.weight"])
    assert all(others[name].abs().max() > 1e-3 for name in ("trunk.words.weight", "head.weight"))


def test_what_padding_holds_changes_nothing(example: Example):
    model, objective, left, _ = example
    filled = left.inputs["input_ids"].where(left.inputs["attention_mask"] > 0, 5)
    assert not torch.equal(filled, left.inputs["input_ids"])
    other = Split(left.inputs | {"input_ids": filled}, left.labels, left.indices)
    plan = plan_gradients(model, left.inputs)
    first, second = (plan.rows(*pair(split), objective.loss).dense() for split in (left, other))
    torch.testing.assert_close(first, second)


def test_double_precision_leaves_token_ids_alone(example: Example):
    model, objective, left, right = example
    exact = gradient_kernel(model, pair(left), pair(right), objective.loss)
    single = [split.cast(torch.float32) for split in (left, right)]
    rounded = gradient_kernel(model.float(), *map(pair, single), objective.loss)
    assert rounded.cross.dtype == torch.float32
    torch.testing.assert_close(rounded.cross.double(), exact.cross, rtol=1e-3, atol=1e-4 * float(exact.cross.abs().max()))
    back = [split.cast(torch.float64) for split in single]
    for name, part in back[0].inputs.items():
        assert part.dtype == (torch.float64 if name == "pixel_values" else torch.int64)
        torch.testing.assert_close(part, left.inputs[name])
    again = gradient_kernel(model.double(), *map(pair, back), objective.loss)
    assert again.cross.dtype == torch.float64
    torch.testing.assert_close(again.cross, exact.cross, rtol=1e-4, atol=1e-5 * float(exact.cross.abs().max()))


def test_rows_in_both_forms_in_parameter_space(example: Example):
    model, objective, left, right = example
    expected, other = (naive_gradients(model, split) for split in (left, right))
    names = [name for name, _ in model.named_parameters()]
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    flat = torch.randn(4, expected.shape[1], generator=generator, dtype=torch.float64)
    pieces = flat.split([parameter.numel() for parameter in model.parameters()], dim=1)
    vectors = {name: piece.unflatten(1, model.get_parameter(name).shape) for name, piece in zip(names, pieces, strict=True)}
    for count in (1, 10**6):
        plan = plan_gradients(model, left.inputs, None, count, count)
        held, streamed = plan.rows(*pair(left), objective.loss), plan.rows(*pair(right), objective.loss, block_size=2)
        torch.testing.assert_close(held.dense(), expected)
        torch.testing.assert_close(streamed.dense(), other)
        torch.testing.assert_close(held.inner(streamed), expected @ other.T)
        torch.testing.assert_close(held.times(vectors), flat @ expected.T)
        combined = held.combined(weights)
        torch.testing.assert_close(torch.cat([combined[name].flatten(1) for name in names], dim=1), weights @ expected)
    looped = looped_gradients(model, names, *pair(left), objective.loss)
    torch.testing.assert_close(torch.cat([looped[name].flatten(1) for name in names], dim=1), expected)


def test_second_moment_of_curvature_roots_is_the_gauss_newton_matrix(example: Example):
    model, objective, left, _ = example

    def roots_of_one(logits: Tensor, label: Tensor) -> Tensor:
        return objective.curvature_roots(logits, label[None])

    expected = naive_gradients(model, left, roots_of_one)
    rows = plan_gradients(model, left.inputs, None, 3, 3).rows(*pair(left), objective.curvature_roots)
    torch.testing.assert_close(rows.dense(), expected)
    torch.testing.assert_close(second_moment(rows), expected.T @ expected)


@pytest.mark.parametrize("kind", KINDS)
def test_projections_are_the_explicit_matrix(example: Example, kind: str):
    model, objective, left, _ = example
    projection = Projection(16, seed=3, kind=kind)
    matrices = projection.matrix({name: parameter.shape for name, parameter in model.named_parameters()})
    expected = naive_gradients(model, left) @ torch.cat(list(matrices.values()), dim=1).T
    for count in (1, 10**6):
        plan = plan_gradients(model, left.inputs, None, count, count)
        torch.testing.assert_close(projection.project(plan.rows(*pair(left), objective.loss)), expected)
        each = [projection.project(plan.rows(*pair(left[[i]]), objective.loss)) for i in (2, 0, 1)]
        torch.testing.assert_close(torch.cat(each), expected[[2, 0, 1]])


def test_representations_are_what_goes_into_the_head(example: Example, monkeypatch: pytest.MonkeyPatch):
    model, _, _, right = example
    assert classifier_of(model, right.inputs) is model.head
    text = {name: right.inputs[name] for name in ("input_ids", "attention_mask")}
    build = TextClassifier if isinstance(model, TextClassifier) else LanguageModel
    monkeypatch.setattr("tda.gradients.representations.BATCH_SIZE", 2)
    found = penultimate_representations(model, right.inputs).unflatten(1, (-1, 6))
    expected = build.forward(model, **text).flatten(1)
    torch.testing.assert_close((found @ model.head.weight.T + model.head.bias).flatten(1), expected)


def test_activations_are_those_of_one_example(example: Example):
    model, objective, left, right = example
    kept = activation_bytes(model, left.inputs)
    assert kept == activation_bytes(model, right.inputs) == activation_bytes(model, left[:1].inputs) > 0
    # At least what goes into the linear layers: token vectors of width 6, in float64.
    assert kept > 8 * 6 * tiny_texts.LENGTH
    plan = plan_gradients(model, left.inputs)
    assert examples_at_once(plan, left.inputs, 1, memory_budget=20) == 4
