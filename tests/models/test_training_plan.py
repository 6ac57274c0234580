"""Epochs, steps and batches."""

import pytest
import torch

from tda.data.splits import Split
from tda.gradients.objectives import Classification
from tda.models.model_state import read_state
from tda.models.training_plan import TrainingPlan, parse_epochs
from tda.system.errors import UserError
from tda.training.many_models import train_many
from tda.training.runs import Run
from tda.training.stacked_models import train_stacked


def test_hyperparameters_of_the_study():
    expected = {"epochs": 15, "learning_rate": 1e-3, "weight_decay": 5e-3, "batch_size": 32, "num_kept_epochs": 5}
    untaken = {"linear_decay": False, "mixed_precision": False, "momentum": None, "random_crop": False}
    assert TrainingPlan(15).as_dict() == expected | untaken


def test_last_epochs_are_kept():
    assert TrainingPlan(15).kept_epochs == [11, 12, 13, 14, 15]
    assert TrainingPlan(3).kept_epochs == [1, 2, 3]


def test_every_epoch_sees_every_example_once_in_its_own_order():
    plan = TrainingPlan(epochs=3)
    batches = plan.batches(seed=4, num_train=70)
    assert plan.steps_per_epoch(70) == 3 and [len(batch) for batch in batches] == [32, 32, 6] * 3
    epochs = [torch.cat(batches[start : start + 3]) for start in (0, 3, 6)]
    assert all(sorted(epoch.tolist()) == list(range(70)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert plan.steps_per_epoch(64) == 2 and plan.steps_per_epoch(1) == 1


def test_early_epochs_are_kept_besides_and_change_no_number():
    plan = TrainingPlan(epochs=20, num_kept_epochs=2, early_epochs=(1, 5, 19))
    assert plan.kept_epochs == [19, 20] and plan.checkpoint_epochs == [1, 5, 19, 20]
    assert plan.as_dict() == TrainingPlan(epochs=20, num_kept_epochs=2).as_dict()
    assert TrainingPlan(3, momentum=0.0).as_dict() == TrainingPlan(3).as_dict() | {"momentum": 0.0}


def test_epochs_from_text():
    assert parse_epochs("5, 1,2,5") == (1, 2, 5) and parse_epochs(" ") == ()
    for wrong in ("0", "1,,2", "-1", "two", "1.5"):
        with pytest.raises(UserError, match="separated by commas, such as 1,2,5"):
            parse_epochs(wrong)


@pytest.mark.parametrize("stacked", [False, True])
def test_momentum_is_that_of_the_textbook(stacked: bool):
    """v <- 0.9 v + g + decay w, w <- w - rate v, on a linear model in float64, trained alone and in a stack."""
    plan = TrainingPlan(epochs=3, learning_rate=0.1, weight_decay=0.01, batch_size=4, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(10, 5, generator=generator, dtype=torch.float64), torch.arange(10) % 3
    model = torch.nn.Linear(5, 3).double()
    split, batches = Split(images, labels, torch.arange(10)), plan.batches(1, 10)
    run = Run(read_state(model), batches, [len(batches)])
    train = train_stacked if stacked else train_many
    ((_, (snapshot,)),) = train(model, plan, Classification(), [run], split, None, True)
    weight, bias = (parameter.detach().clone() for parameter in (model.weight, model.bias))
    speeds = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for batch in batches:
        slopes = (images[batch] @ weight.T + bias).softmax(1) - torch.eye(3, dtype=torch.float64)[labels[batch]]
        gradients = (slopes.T @ images[batch] / len(batch), slopes.mean(dim=0))
        for parameter, speed, gradient in zip((weight, bias), speeds, gradients, strict=True):
            speed.mul_(0.9).add_(gradient + 0.01 * parameter)
            parameter.sub_(0.1 * speed)
    torch.testing.assert_close(snapshot.state.parameters["weight"], weight, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(snapshot.state.parameters["bias"], bias, rtol=1e-10, atol=1e-12)
