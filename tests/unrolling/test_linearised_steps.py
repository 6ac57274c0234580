"""The derivative with the Gauss-Newton matrix of every step: where it is exact, and against steps that are written out."""

import pytest
import torch
from changed_weights import differences, relative_error
from test_both_ways import PLANS, PLENTY, network
from torch import Tensor, nn

from tda.curvature import gauss_newton_batch
from tda.curvature.batch_derivatives import Differentiator
from tda.curvature.products import flatten, gauss_newton_products, unflatten
from tda.curvature.weighted_batch import WeightedBatch
from tda.data.splits import Split
from tda.gradients.objectives import Classification, NextToken, Objective
from tda.models.model_state import read_state, trained_parameters
from tda.models.training_plan import TrainingPlan
from tda.training.runs import Run
from tda.training.taken_steps import Training
from tda.unrolling.both_ways import Unrolling

NETWORKS = ["convolutional", "perceptron", "dropout", "batch norm"]


def training_of(model: nn.Module, shape: tuple[int, ...], options: str, at: float) -> tuple[Training, Split]:
    """A training of ten random examples of three classes, looked at after two and three epochs, and six test examples."""
    plan = TrainingPlan(epochs=3, batch_size=4, num_kept_epochs=2, **PLANS[options])
    train, test = (Split(torch.randn(n, *shape).double(), torch.randint(3, (n,)), torch.arange(n)) for n in (10, 6))
    steps = plan.steps_per_epoch(10)
    weights = torch.full((10,), at).double()
    run = Run(read_state(model), plan.batches(3, 10), [2 * steps, 3 * steps], weights, seed=5)
    return Training(model, plan, Classification(), run, train), test


def both_ways(training: Training, test: Split) -> tuple[Tensor, Tensor]:
    """The derivative forwards and backwards, (snapshots, n_train, n_test) each."""
    unrolling = Unrolling.of(training, test, Classification().loss, PLENTY, gauss_newton=True)
    forwards = torch.stack([found for _, found in unrolling.forwards(range(len(training.train)))])
    backwards = torch.stack([unrolling.backwards(snapshot, test).T for snapshot in training.run.snapshots])
    return forwards, backwards


@pytest.mark.parametrize("options", PLANS)
def test_it_is_the_exact_derivative_of_a_linear_model(options: str):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    for at in (1.0, 0.6):
        training, test = training_of(model, (1, 4, 4), options, at)
        forwards, backwards = both_ways(training, test)
        assert relative_error(forwards, differences(training, test, at)) < 1e-5
        assert relative_error(backwards, forwards) < 1e-10


@pytest.mark.parametrize(("name", "rows"), [("perceptron", False), *((name, True) for name in NETWORKS)])
def test_backwards_is_forwards(name: str, rows: bool, monkeypatch: pytest.MonkeyPatch):
    if not rows:
        monkeypatch.setattr(gauss_newton_batch, "_LARGEST_ROWS", 0)
    model, shape = network(name)
    forwards, backwards = both_ways(*training_of(model, shape, "Adam, decaying, clipped", 0.6))
    assert relative_error(backwards, forwards) < 1e-10


def batch_of(model: nn.Module, objective: Objective, inputs: Tensor, labels: Tensor) -> WeightedBatch:
    """The examples with the weights of a mean."""
    values = {name: parameter.detach() for name, parameter in trained_parameters(model).items()}
    return WeightedBatch(objective, inputs, labels, torch.full((len(labels),), 1 / len(labels), dtype=torch.float64), values)


@pytest.mark.parametrize("name", ["convolutional", "perceptron", "tokens"])
@pytest.mark.parametrize("rows", [True, False])
def test_products_gradients_and_losses(name: str, rows: bool, monkeypatch: pytest.MonkeyPatch):
    if not rows:
        monkeypatch.setattr(gauss_newton_batch, "_LARGEST_ROWS", 0)
    torch.manual_seed(2)
    objective: Objective = Classification()
    if name == "tokens":
        model, objective = nn.Sequential(nn.Embedding(7, 4), nn.Tanh(), nn.Linear(4, 7)).double(), NextToken()
        inputs = torch.randint(7, (5, 6))
        labels = inputs.masked_fill(torch.arange(6) > torch.tensor([[5], [3], [4], [2], [5]]), -100)
    else:
        model, shape = network(name)
        inputs, labels = torch.randn(5, *shape).double(), torch.randint(3, (5,))
    batch = batch_of(model, objective, inputs, labels)
    found, exact = (Differentiator(model, gauss_newton)(batch) for gauss_newton in (True, False))
    vectors = torch.randn(3, sum(value.numel() for value in batch.values.values())).double()
    tangents = unflatten(vectors, model)
    slopes, losses, statistics = found.products(tangents)
    split = Split(inputs, labels, torch.arange(5))
    expected = gauss_newton_products(model, objective, split)(vectors)
    assert relative_error(flatten({name: slopes[name] for name in batch.values}), expected) < 1e-10
    assert relative_error(losses, exact.products(tangents)[1]) < 1e-10
    assert not statistics
    for name, gradients in exact.example_gradients().items():
        torch.testing.assert_close(found.example_gradients()[name], gradients, rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(found.gradient[name], exact.gradient[name], rtol=1e-8, atol=1e-12)
