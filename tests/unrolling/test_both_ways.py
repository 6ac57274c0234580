"""Derivatives through trainings of every kind of network and plan against finite differences, forwards against backwards."""

from dataclasses import replace

import pytest
import torch
from changed_weights import differences, relative_error
from torch import nn

from tda.data.splits import Split
from tda.gradients.objectives import Classification
from tda.models.model_state import read_state
from tda.models.seeded_dropout import SeededDropout
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.training.runs import Run
from tda.training.taken_steps import Training
from tda.unrolling.both_ways import Unrolling

PLENTY = 2**30


def network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network in float64 and the shape of its inputs."""
    convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.MaxPool2d(2))
    normalised = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.GELU())
    networks = {
        "convolutional": (nn.Sequential(convolution, nn.Flatten(), nn.Linear(36, 3)), (1, 8, 8)),
        "perceptron": (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), (6,)),
        "dropout": (nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), SeededDropout(0.3), nn.GELU(), nn.Linear(8, 3)), (6,)),
        "batch norm": (nn.Sequential(normalised, nn.Flatten(), nn.Linear(108, 3)), (1, 8, 8)),
    }
    torch.manual_seed(3)
    model, shape = networks[name]
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.reset_parameters()
    return model.double(), shape


PLANS = {
    "Adam": {"learning_rate": 0.01},
    "Adam, epsilon inside": {"learning_rate": 0.01, "adam_epsilon_inside": 1e-4},
    "Adam, decaying, clipped": {"learning_rate": 0.01, "linear_decay": True, "gradient_clipping": 0.3, "weight_decay": 0.1},
    "AdamW, warming up": {
        **{"learning_rate": 0.01, "weight_decay": 2.0, "decoupled_decay": True},
        **{"warm_up": 0.3, "linear_decay": True},
    },
    "SGD": {"learning_rate": 0.05, "momentum": 0.0},
    "SGD, momentum, clipped": {"learning_rate": 0.05, "momentum": 0.9, "gradient_clipping": 0.3},
    "Adam, crops": {"learning_rate": 0.01, "random_crop": True},
}


@pytest.mark.parametrize("name", ["convolutional", "perceptron", "dropout", "batch norm"])
@pytest.mark.parametrize("options", PLANS)
def test_every_network_and_every_plan(name: str, options: str):
    model, shape = network(name)
    plan = TrainingPlan(epochs=3, batch_size=4, num_kept_epochs=2, **PLANS[options])
    train, test = (Split(torch.randn(n, *shape).double(), torch.randint(3, (n,)), torch.arange(n)) for n in (10, 6))
    steps = plan.steps_per_epoch(len(train))
    for at in (1.0, 0.6):
        run = Run(
            read_state(model), plan.batches(3, len(train)), [2 * steps, 3 * steps], torch.full((10,), at).double(), seed=5
        )
        training = Training(model, plan, Classification(), run, train)
        unrolling = Unrolling.of(training, test, Classification().loss, PLENTY)
        forwards = torch.stack([found for _, found in unrolling.forwards(range(len(train)))])
        assert relative_error(forwards, differences(training, test, at)) < 1e-5
        backwards = torch.stack([unrolling.backwards(snapshot, test).T for snapshot in run.snapshots])
        assert relative_error(backwards, forwards) < 1e-10


def test_states_that_do_not_fit_are_taken_again_from_a_few():
    model, shape = network("perceptron")
    plan = TrainingPlan(epochs=4, batch_size=3)
    train, test = (Split(torch.randn(n, *shape).double(), torch.randint(3, (n,)), torch.arange(n)) for n in (9, 4))
    run = Run(read_state(model), plan.batches(0, len(train)), [12], seed=1)
    training = Training(model, plan, Classification(), run, train)
    state = 4 * 8 * sum(parameter.numel() for parameter in model.parameters())
    expected = Unrolling.of(training, test, Classification().loss, PLENTY).backwards(12, test)
    tight = Unrolling.of(training, test, Classification().loss, 8 * state)
    assert torch.equal(tight.backwards(12, test), expected)
    with pytest.raises(UserError, match=r"GiB of states; raise --unrolled.memory_gib"):
        replace(tight, memory=6 * state).backwards(12, test)
