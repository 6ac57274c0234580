"""Epochs, steps and batches."""

from dataclasses import replace

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


def test_smooth_choices_are_part_of_what_a_plan_is_only_where_they_are_made():
    plain = TrainingPlan(3).as_dict()
    assert TrainingPlan(3, adam_epsilon_inside=1e-8).as_dict() == plain | {"adam_epsilon_inside": 1e-8}
    assert TrainingPlan(3, gradient_clipping=2.0).as_dict() == plain | {"gradient_clipping": 2.0}


def test_smooth_choices_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="adam_epsilon_inside of a training plan must be positive, not 0.0"):
        TrainingPlan(3, adam_epsilon_inside=0.0)
    with pytest.raises(UserError, match="gradient_clipping of a training plan must be positive, not nan"):
        TrainingPlan(3, gradient_clipping=float("nan"))
    with pytest.raises(UserError, match="this one trains by SGD with momentum"):
        TrainingPlan(3, adam_epsilon_inside=1e-8, momentum=0.0)
    for other in ({"momentum": 0.9}, {"adam_epsilon_inside": 1e-8}):
        with pytest.raises(UserError, match="decoupled_decay is for plans that train by torch's Adam"):
            TrainingPlan(3, decoupled_decay=True, **other)
    for share in (1.0, -0.1, 0.0):
        with pytest.raises(UserError, match="warm_up of a training plan must be"):
            TrainingPlan(3, warm_up=share)


def test_rates_rise_to_the_plan_s_own_and_fall_to_nothing():
    plan = TrainingPlan(3, learning_rate=0.8, warm_up=0.25, linear_decay=True)
    assert plan.rate_changes and replace(plan, linear_decay=False).rate_changes
    expected = [0.4, 0.8, *(0.8 * (6 - step) / 6 for step in range(6))]
    assert [plan.rate(step, 8) for step in range(1, 9)] == pytest.approx(expected)
    steady = replace(plan, linear_decay=False)
    assert [steady.rate(step, 8) for step in range(1, 9)] == pytest.approx([0.4, 0.8] + [0.8] * 6)
    assert replace(plan, warm_up=1e-3).rate(1, 8) == 0.8 == replace(plan, warm_up=None).rate(1, 8)
    assert plan.as_dict()["warm_up"] == 0.25 and "warm_up" not in TrainingPlan(3).as_dict()


def test_decoupled_decay_is_no_part_of_the_gradient():
    plan = TrainingPlan(3, weight_decay=0.1, decoupled_decay=True)
    assert plan.as_dict()["decoupled_decay"] is True and not plan.rate_changes
    assert (plan.coupled_decay, plan.shrinking(0.5)) == (0.0, 0.95)
    coupled = replace(plan, decoupled_decay=False)
    assert (coupled.coupled_decay, coupled.shrinking(0.5)) == (0.1, 1.0) and "decoupled_decay" not in coupled.as_dict()


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(
    ("epsilon", "clipping", "decoupled"),
    [(1e-6, None, False), (None, 0.6, False), (1e-6, 0.6, False), (None, None, True), (None, 0.6, True)],
)
def test_choices_are_those_of_a_naive_loop(stacked: bool, epsilon: float | None, clipping: float | None, decoupled: bool):
    """On a linear model in float64: gradient, its norm cut, weight decay, Adam; trained alone and in a stack."""
    options = {"adam_epsilon_inside": epsilon, "gradient_clipping": clipping, "decoupled_decay": decoupled}
    plan = TrainingPlan(epochs=4, learning_rate=0.05, weight_decay=0.3 if decoupled else 0.01, batch_size=4, **options)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(10, 5, generator=generator, dtype=torch.float64), torch.arange(10) % 3
    model = torch.nn.Linear(5, 3).double()
    split, batches = Split(images, labels, torch.arange(10)), plan.batches(1, 10)
    weights = torch.ones(10)
    weights[3] = 0
    # Two models that differ, so that a stack has norms of its own to tell apart.
    runs = [Run(read_state(model), batches, [len(batches)], each) for each in (None, weights)]
    train = train_stacked if stacked else train_many
    trained = dict(train(model, plan, Classification(), runs, split, None, True))
    for number, run in enumerate(runs):
        expected, cut = _naive(model, batches, images, labels, plan, run.weights)
        assert (cut > 0) == (clipping is not None) and cut < len(batches)
        state = trained[number][0].state.parameters
        torch.testing.assert_close(state["weight"], expected[0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(state["bias"], expected[1], rtol=1e-9, atol=1e-11)


def _naive(
    model: torch.nn.Linear,
    batches: list[torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    plan: TrainingPlan,
    weights: torch.Tensor | None,
) -> tuple[list[torch.Tensor], int]:
    """Weight and bias after the training, and how many steps were clipped."""
    values = [model.weight.detach().clone(), model.bias.detach().clone()]
    means, squares = ([torch.zeros_like(value) for value in values] for _ in range(2))
    weights, cut = torch.ones(10) if weights is None else weights, 0
    for step, batch in enumerate(batches, start=1):
        slopes = (images[batch] @ values[0].T + values[1]).softmax(1) - torch.eye(3, dtype=torch.float64)[labels[batch]]
        slopes = slopes * weights[batch].double()[:, None] / len(batch)
        gradients = [slopes.T @ images[batch], slopes.sum(dim=0)]
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        if plan.gradient_clipping is not None and norm > plan.gradient_clipping:
            gradients, cut = [gradient * plan.gradient_clipping / norm for gradient in gradients], cut + 1
        for place, gradient in enumerate(gradients):
            if plan.decoupled_decay:
                values[place] = values[place] - plan.learning_rate * plan.weight_decay * values[place]
            else:
                gradient = gradient + plan.weight_decay * values[place]
            means[place] = 0.9 * means[place] + 0.1 * gradient
            squares[place] = 0.999 * squares[place] + 0.001 * gradient**2
            mean, square = means[place] / (1 - 0.9**step), squares[place] / (1 - 0.999**step)
            inside = plan.adam_epsilon_inside
            divisor = square.sqrt() + 1e-8 if inside is None else (square + inside).sqrt()
            values[place] = values[place] - plan.learning_rate * mean / divisor
    return values, cut


def test_a_momentum_that_keeps_everything_is_refused():
    with pytest.raises(UserError, match="momentum of a training plan must be below 1, not 1.0"):
        TrainingPlan(3, momentum=1.0)
