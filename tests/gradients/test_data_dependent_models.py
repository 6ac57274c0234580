"""Models that do to some examples what they do not do to others: their gradients are those that an example has alone."""

from dataclasses import replace

import pytest
import torch
from single_examples import (
    CLASSES,
    WIDTH,
    Adaptive,
    Borrowing,
    Branching,
    Chunked,
    EarlyExit,
    HeadsByDomain,
    Mixture,
    MixtureClassifier,
    Sorting,
    assert_gradients_are_those_alone,
    features,
    gradients_alone,
    labels_of,
    seeded,
)
from torch import nn

from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.quantities import cross_entropy_loss
from tda.system.errors import UserError


def with_first(values: list[float]) -> torch.Tensor:
    """Examples whose first feature takes these values in turn."""
    inputs = features()
    inputs[:, 0] = torch.tensor(values, dtype=torch.float64).repeat(len(inputs))[: len(inputs)]
    return inputs


@pytest.mark.parametrize("block_size", [1, 5, 18])
def test_experts_that_the_first_examples_do_not_use(block_size: int) -> None:
    inputs = with_first([0.0] * 6 + [0.1, 0.2, 0.0])
    assert_gradients_are_those_alone(seeded(Branching), inputs, block_size=block_size)


def test_experts_that_no_example_of_the_probe_uses() -> None:
    inputs = with_first([0.0])
    inputs[11, 0] = 0.1
    plan = assert_gradients_are_those_alone(seeded(Branching), inputs)
    assert {"experts.1.weight", "experts.2.bias"} < set(plan.resting)


@pytest.mark.parametrize("tokens", [False, True])
def test_sparse_experts(tokens: bool) -> None:
    inputs = features(18 * 4).view(18, 4, WIDTH) if tokens else features()
    model = seeded(lambda: MixtureClassifier(Mixture()))
    plan = assert_gradients_are_those_alone(model, inputs)
    # The mixture is run again by itself, and no more of the model.
    looped = [layer for layer in plan.layers if not layer.vectorized]
    assert [layer.module for layer in looped] == [model.mixture] and not plan.whole_model
    assert all(name.startswith("mixture.") for name in looped[0].parameters.values())


def test_sparse_experts_of_the_model_itself() -> None:
    assert_gradients_are_those_alone(nn.Sequential(seeded(Mixture), nn.Linear(WIDTH, CLASSES).double()), features())


@pytest.mark.parametrize("expert", range(4))
def test_examples_that_reach_no_selected_parameter_have_gradient_zero(expert: int) -> None:
    model, inputs = seeded(lambda: MixtureClassifier(Mixture())), features()
    names = [f"mixture.experts.{expert}.weight"]
    assert_gradients_are_those_alone(model, inputs, names)
    expected = gradients_alone(model, inputs, labels_of(inputs), cross_entropy_loss, names)
    assert (expected == 0).all(dim=1).any()


@pytest.mark.parametrize("first", [[1.0], [-1.0] * 11 + [1.0], [-1.0, 1.0, 1.0]])
@pytest.mark.parametrize("subset", [False, True])
def test_early_exits(subset: bool, first: list[float]) -> None:
    assert_gradients_are_those_alone(seeded(EarlyExit, subset), with_first(first))


def test_no_example_reaches_any_selected_parameter() -> None:
    model, inputs = seeded(EarlyExit, True), with_first([-1.0])
    rows = plan_gradients(model, inputs, ["second.weight", "shift"]).rows(inputs, labels_of(inputs), cross_entropy_loss)
    assert rows.dense().shape == (len(inputs), WIDTH * WIDTH + 1) and not rows.dense().any() and not rows.gram().any()


@pytest.mark.parametrize("position", [0, 5, 10, None])
def test_weights_that_a_branch_reads_without_calling_their_layers(position: int | None) -> None:
    inputs = with_first([0.0])
    if position is not None:
        inputs[position, 0] = 2
    assert_gradients_are_those_alone(seeded(Borrowing), inputs)


def test_the_slower_rows_of_a_layer_come_in_the_layers_own_form() -> None:
    """A branch that the probe did not see reads factored layers, and blocks with and without it are joined."""
    model, inputs = seeded(Borrowing), with_first([0.0])
    plan = plan_gradients(model, inputs)
    factored = [replace(layer, factored=not isinstance(layer.module, nn.LayerNorm)) for layer in plan.layers]
    plan = replace(plan, layers=factored)
    assert sum(layer.factored for layer in plan.layers) == 4
    inputs[9, 0] = 2
    labels = labels_of(inputs)
    expected = gradients_alone(model, inputs, labels, cross_entropy_loss)
    for block_size in (4, 18):
        rows = plan.rows(inputs, labels, cross_entropy_loss, block_size)
        torch.testing.assert_close(rows.dense(), expected)
        torch.testing.assert_close(rows.gram(), expected @ expected.T)
        torch.testing.assert_close(rows.squared_norms(), expected.square().sum(1))
        picked = torch.tensor([9, 2])
        torch.testing.assert_close(rows.chosen(picked).inner(rows), expected[picked] @ expected.T)


@pytest.mark.parametrize("domains", [[0, 1, 2], [0] * 9 + [1] * 6 + [2] * 3, [0] * 17 + [2]])
def test_heads_by_domain(domains: list[int]) -> None:
    inputs = {"features": features(), "domains": torch.tensor(domains).repeat(18)[:18]}
    assert_gradients_are_those_alone(seeded(HeadsByDomain), inputs)


@pytest.mark.parametrize("build", [Adaptive, Sorting, Chunked])
def test_a_layer_that_is_called_with_other_batches_than_the_model(build: type[nn.Module]) -> None:
    assert_gradients_are_those_alone(seeded(build), features())


def test_a_batch_that_is_in_order_already_proves_nothing() -> None:
    inputs = features()
    assert_gradients_are_those_alone(seeded(Sorting), torch.cat([inputs[:9].sort(dim=0).values, inputs[9:]]), block_size=9)


class SortingLate(Sorting):
    """Reorders only batches with an example that stands out."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs) if (inputs[:, 1] > 5).any() else self.head(torch.tanh(self.layer(inputs)))


def test_a_batch_that_is_regrouped_after_the_probe_is_refused() -> None:
    model, inputs = seeded(SortingLate), features()
    plan = plan_gradients(model, inputs)
    inputs[3, 1] = 6
    with pytest.raises(UserError, match="layer.weight.*regroups the examples of a batch; give it one example at a time"):
        plan.rows(inputs, labels_of(inputs), cross_entropy_loss)
    rows = plan.rows(inputs, labels_of(inputs), cross_entropy_loss, block_size=1)
    torch.testing.assert_close(rows.dense(), gradients_alone(model, inputs, labels_of(inputs), cross_entropy_loss))


class OnTheEdge(nn.Module):
    """Has a rectified unit at 0, which rounding puts on one side in a batch and on the other for an example alone."""

    def __init__(self, mixes: bool = False) -> None:
        super().__init__()
        self.layer, self.head, self.mixes = nn.Linear(WIDTH, 6), nn.Linear(6, CLASSES), mixes
        with torch.no_grad():
            self.layer.weight[2], self.layer.bias[2] = 0, 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden, edge = self.layer(inputs), -1e-9
        # What float64 does not do either, a mixing model does.
        if len(inputs) > 1 and (inputs[:, 1] > 5).any() and (self.mixes or hidden.dtype == torch.float32):
            edge = 1e-9
        hidden = hidden + edge
        return self.head(hidden.relu())


def test_a_rectified_unit_on_its_edge_is_no_regrouping() -> None:
    inputs = features(40).float()
    model, labels = seeded(OnTheEdge).float(), labels_of(inputs)
    plans = [plan_gradients(each, inputs) for each in (model, seeded(lambda: OnTheEdge(mixes=True)).float())]
    inputs[[3, 23], 1] = 6
    rows = plans[0].rows(inputs, labels, cross_entropy_loss, block_size=20).dense()
    alone = gradients_alone(model, inputs, labels, cross_entropy_loss)
    of_unit = torch.zeros(rows.shape[1], dtype=torch.bool)
    of_unit[[*range(2 * WIDTH, 3 * WIDTH), 6 * WIDTH + 2]] = True
    assert not torch.allclose(rows[:, of_unit], alone[:, of_unit])
    torch.testing.assert_close(rows[:, ~of_unit], alone[:, ~of_unit])
    with pytest.raises(UserError, match="regroups the examples of a batch"):
        plans[1].rows(inputs, labels, cross_entropy_loss, block_size=20)


class ScalingRarely(Chunked):
    """Scales a whole batch by an example that stands out."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs / inputs.abs().max() if inputs.abs().max() > 5 else inputs)


def test_a_batch_whose_examples_mix_after_the_probe_is_refused() -> None:
    model, inputs = seeded(ScalingRarely), features(130)
    plan = plan_gradients(model, inputs)
    inputs[123, 1] = 6
    labels = labels_of(inputs)
    plan.rows(inputs[:100], labels[:100], cross_entropy_loss, block_size=10)
    with pytest.raises(UserError, match="depends on the other examples of its batch"):
        plan.rows(inputs[100:], labels[100:], cross_entropy_loss, block_size=10)


class Lengths(nn.Module):
    """Sums as many rows of each example as it is long, as a list says that Python walks through."""

    def __init__(self, by_place: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.by_place = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4)), by_place

    def forward(self, hidden: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        if self.by_place:
            rows = [hidden[place, :length] for place, length in enumerate(lengths)]
        else:
            rows = [example[:length] for example, length in zip(hidden, lengths, strict=False)]
        return torch.stack([(row * self.weight + self.bias).sin().sum(dim=0) for row in rows])


class OfLengths(nn.Module):
    def __init__(self, by_place: bool) -> None:
        super().__init__()
        self.words, self.inner, self.head = nn.Embedding(10, 4), Lengths(by_place), nn.Linear(4, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(self.words(tokens), (tokens != 0).sum(dim=1).tolist()))


def texts_sorted_by_length() -> torch.Tensor:
    """Eight whole texts, then batches of eight, the longest first and whole in each."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 10, (32, 6), generator=generator)
    for start in (8, 16, 24):
        lengths = [6, *sorted(torch.randint(1, 6, (7,), generator=generator).tolist(), reverse=True)]
        for place, length in enumerate(lengths):
            tokens[start + place, length:] = 0
    return tokens


def test_lists_that_stop_fitting_where_the_first_of_every_batch_still_does() -> None:
    """A module that is run again with another batch's list is found out, wherever in the batch that shows."""
    model, tokens = seeded(lambda: OfLengths(False)), texts_sorted_by_length()
    with pytest.raises(UserError, match="is not the one that the example has alone"):
        plan_gradients(model, tokens[:8]).rows(tokens, labels_of(tokens), cross_entropy_loss, block_size=8)


def test_a_list_that_is_read_by_place() -> None:
    assert_gradients_are_those_alone(seeded(lambda: OfLengths(True)), texts_sorted_by_length(), block_size=8)
